from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gslora_mm.registry import METHODS
from .l2 import L2

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.methods.ingredients.weight_drift import WeightDrift


@METHODS.register_module()
class EWC(L2):
    r"""Forgetting by wrong labels, with elastic weight consolidation.

    "Overcoming catastrophic forgetting in neural networks", PNAS 2017,
    https://arxiv.org/abs/1612.00796.

    .. math::
        L = L_{retain} + \beta\, L_{forget}
        + \frac{\lambda}{2} \sum_i F_i (\theta_i - \theta^*_i)^2, \quad
        F_i = \frac{1}{N} \sum_{n=1}^N
        \Big(\frac{\partial \log p(y_n | x_n)}{\partial \theta_i}\Big)^2

    F is the diagonal of the empirical Fisher information: gradients of
    single images, at the labels that they have, over the retain replay
    images of the step. :math:`-\log p` is the model's own training loss,
    in detection with the boxes, as in the public code of GS-LoRA. That code
    squares the gradients of batches, which is not the Fisher, so that its
    values of :math:`\lambda` do not carry over.

    With an adapter, F is that of the merged weights W. As in :class:`L2`,
    the anchor :math:`\theta^*` is the start of the step; F is taken there
    too, and neither is kept beyond it.

    Args:
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 1.0.
        weight (float): :math:`\lambda`; a list in a config has one value a
            step. Defaults to 100.0.
    """

    name = 'ewc'
    can_learn = False

    def __init__(self, beta: float = 1.0, weight: float = 100.0) -> None:
        super().__init__(beta, weight)

    def importance(
        self, drift: WeightDrift, dataset: ForgetRetainDataset
    ) -> dict[str, Tensor]:
        return drift.importance(dataset, attrgetter('loss'), torch.square)

    def penalty(self) -> Tensor:
        return super().penalty() / 2
