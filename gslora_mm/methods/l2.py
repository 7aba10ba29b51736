from gslora_mm.registry import METHODS
from .base import BaseMethod
from .ingredients.weight_drift import WeightDrift
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class L2(BaseMethod):
    r"""Forgetting by wrong labels, near the weights of before.

    .. math::
        L = L_{retain} + \beta\, L_{forget}
        + \lambda \sum_i (\theta_i - \theta^*_i)^2

    The penalty to which "Overcoming catastrophic forgetting in neural
    networks", PNAS 2017, https://arxiv.org/abs/1612.00796, compares its own
    (:class:`EWC`): all weights :math:`\theta_i` matter alike. With an
    adapter they are the merged ones, so that
    :math:`\theta - \theta^* = (\alpha / r) B A`.

    The weights :math:`\theta^*` are those that the step began with. In the
    public code of GS-LoRA one penalty a step adds up; those of earlier steps
    would pull the classes back that were forgotten since.

    Args:
        beta: Weight of the forget half.
        weight: :math:`\lambda`, for faces.
    """

    name = 'l2'
    beta: PerStep[NonNegative] = 1.0
    weight: PerStep[NonNegative] = 0.1

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.drift = WeightDrift(model)

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        yield {'loss_retain': retain.loss}
        yield {'loss_penalty': self.weight * self.drift.squared()}
