from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.registry import METHODS
from .arguments import check_weights
from .relabelled import RelabelledForgetting
from gslora_mm.methods.ingredients.weight_drift import WeightDrift

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class L2(RelabelledForgetting):
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
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 1.0.
        weight (float): :math:`\lambda`; a list in a config has one value a
            step. Defaults to 0.1 (faces).
    """

    name = 'l2'
    per_step = (*RelabelledForgetting.per_step, 'weight')

    def __init__(self, beta: float = 1.0, weight: float = 0.1) -> None:
        super().__init__(beta)
        check_weights(weight=weight)
        self.weight = weight
        self._drift: WeightDrift | None = None
        self._importance: dict[str, Tensor] | None = None

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        super().prepare(model, dataset)
        self._drift = WeightDrift(model)
        self._importance = self.importance(self._drift, dataset)

    def importance(
        self, drift: WeightDrift, dataset: ForgetRetainDataset
    ) -> dict[str, Tensor] | None:
        """How much each weight matters, by name; None is 1 for each."""
        return None

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield from super().losses(forget, retain)
        yield {'loss_penalty': self.weight * self.penalty()}

    def penalty(self) -> Tensor:
        """What stands behind the weight."""
        return self._drift.squared(self._importance)
