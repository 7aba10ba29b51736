from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.models.losses import bounded_forgetting_loss
from gslora_mm.utils.distributed import mean_over_processes
from .arguments import check_bounds, check_weights
from .base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


class BoundedForgetting(BaseMethod):
    r"""What many methods share: bounded forgetting, and replay.

    .. math::
        L = L_{retain} + \beta\, L_{forget}, \quad
        L_{forget} = \mathrm{ReLU}(BND - CE_f)

    Where the model's loss has more than a classification term (boxes), these
    keep their sign for the forget half and take part with weight
    :math:`\beta`. Subclasses add terms to the parts, or parts of their own.

    Args:
        beta (float): Weight of the forget half.
        bound (float): BND.
    """

    per_step = ('beta', 'bound')

    def __init__(self, beta: float, bound: float) -> None:
        super().__init__()
        check_weights(beta=beta)
        check_bounds(bound=bound)
        self.beta = beta
        self.bound = bound

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield self.forget_part(forget)
        yield self.retain_part(retain)

    def forget_part(self, forget: HalfBatch) -> dict[str, Tensor]:
        """All terms of the forget half."""
        # The bound is for the mean over the joint batch of all processes,
        # so that their number does not change what is trained.
        ce = mean_over_processes({'ce': forget.loss_cls})['ce']
        part = {
            'loss_forget': self.beta * bounded_forgetting_loss(ce, self.bound),
            'ce_forget': ce.detach(),
        }
        rest = forget.loss_rest
        if isinstance(rest, Tensor):
            part['loss_forget_rest'] = self.beta * rest
        return part

    def retain_part(self, retain: HalfBatch) -> dict[str, Tensor]:
        """All terms of the retain half."""
        return {'loss_retain': retain.loss}
