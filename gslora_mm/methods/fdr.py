from __future__ import annotations

import torch
from torch import Tensor

from gslora_mm.registry import METHODS
from .distillation import Distillation


@METHODS.register_module()
class FDR(Distillation):
    r"""Function Distance Regularisation.

    Benjamin, Rolnick and Kording, "Measuring and Regularizing Networks in
    Function Space", ICLR 2019, https://arxiv.org/abs/1805.08289.

    .. math::
        L = \beta\, L_{forget} + \alpha\, \mathrm{mean}_i\,
        \Vert \sigma(s_i) - \sigma(t_i) \Vert_2

    The distance is that of output distributions: a softmax over the kept
    classes, or their sigmoids. As in the implementations in use it is the
    mean of norms, not squared; at its kink, the teacher, its gradient counts
    as zero. Class labels of the retain half do not enter; for what detectors
    have beside them, see :class:`Distillation`.

    (The public code of GS-LoRA's tables takes logits for outputs, and for
    detectors the distance over queries in place of classes.)

    Args:
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 1.0.
        alpha (float): Weight of the distance; a list in a config has one
            value a step. Defaults to 1.0.
    """

    name = 'fdr'

    def __init__(self, beta: float = 1.0, alpha: float = 1.0) -> None:
        super().__init__(beta, alpha)

    def distance(
        self, student: Tensor, teacher: Tensor, activation: str
    ) -> Tensor:
        if activation == 'softmax':
            difference = student.softmax(1) - teacher.softmax(1)
        else:
            difference = student.sigmoid() - teacher.sigmoid()
        norms = torch.linalg.vector_norm(difference, dim=1)
        return norms.sum() / max(len(norms), 1)
