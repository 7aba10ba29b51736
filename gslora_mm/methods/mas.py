import torch

from gslora_mm.registry import METHODS
from .base import BaseMethod
from .ingredients.weight_drift import WeightDrift
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class MAS(BaseMethod):
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
        beta: Weight of the forget half.
        weight: :math:`\lambda`.
    """

    name = 'mas'
    can_learn = False
    beta: PerStep[NonNegative] = 1.0
    weight: PerStep[NonNegative] = 0.05

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.drift = WeightDrift(model)
        self.omega = self.drift.importance(
            dataset, lambda half: half.logits.square().sum(), torch.abs
        )

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        yield {'loss_retain': retain.loss}
        yield {'loss_penalty': self.weight * self.drift.squared(self.omega)}
