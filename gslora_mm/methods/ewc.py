from operator import attrgetter

import torch

from gslora_mm.registry import METHODS
from .base import BaseMethod
from .ingredients.weight_drift import WeightDrift
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class EWC(BaseMethod):
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
        beta: Weight of the forget half.
        weight: :math:`\lambda`.
    """

    name = 'ewc'
    can_learn = False
    beta: PerStep[NonNegative] = 1.0
    weight: PerStep[NonNegative] = 100.0

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.drift = WeightDrift(model)
        self.fisher = self.drift.importance(
            dataset, attrgetter('loss'), torch.square
        )

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        yield {'loss_retain': retain.loss}
        yield {
            'loss_penalty': self.weight * self.drift.squared(self.fisher) / 2
        }
