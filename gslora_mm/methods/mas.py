from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gslora_mm.registry import METHODS
from .l2 import L2

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.methods.ingredients.weight_drift import WeightDrift


@METHODS.register_module()
class MAS(L2):
    r"""Forgetting by wrong labels, with memory aware synapses.

    "Memory Aware Synapses: Learning what (not) to forget", ECCV 2018,
    https://arxiv.org/abs/1711.09601.

    .. math::
        L = L_{retain} + \beta\, L_{forget}
        + \lambda \sum_i \Omega_i (\theta_i - \theta^*_i)^2, \quad
        \Omega_i = \frac{1}{N} \sum_{n=1}^N \Big|
        \frac{\partial \Vert z(x_n) \Vert_2^2}{\partial \theta_i} \Big|

    The outputs z are the scores before softmax or sigmoid, without a margin,
    over the retain replay images of the step, image by image. Of a detector
    they are those of the queries that are matched to an object, so that
    there the boxes matter, too; an image without one counts as 0. The public
    code of GS-LoRA takes gradients of batches and the mean over the classes,
    so that its values of :math:`\lambda` do not carry over.

    With an adapter, :math:`\Omega` is that of the merged weights W. As in
    :class:`L2`, the anchor :math:`\theta^*` is the start of the step;
    :math:`\Omega` is taken there too, and neither is kept beyond it.

    Args:
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 1.0.
        weight (float): :math:`\lambda`; a list in a config has one value a
            step. Defaults to 0.05.
    """

    name = 'mas'
    can_learn = False

    def __init__(self, beta: float = 1.0, weight: float = 0.05) -> None:
        super().__init__(beta, weight)

    def importance(
        self, drift: WeightDrift, dataset: ForgetRetainDataset
    ) -> dict[str, Tensor]:
        def output(half):
            return half.logits.square().sum()

        return drift.importance(dataset, output, torch.abs)
