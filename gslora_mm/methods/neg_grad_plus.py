from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class NegGradPlus(BaseMethod):
    r"""Descent on what is kept, ascent on what is forgotten (NegGrad+).

    "Towards Unbounded Machine Unlearning", NeurIPS 2023,
    https://arxiv.org/abs/2302.09880.

    .. math:: L = \alpha\, L_{retain} - (1 - \alpha)\, CE_f

    Neither half ever ends: nothing but :math:`\alpha` keeps the ascent from
    winning. A bounded one is :class:`GSLoRA` with ``alpha_s = 0``. The paper
    is about classifiers; of a detector's forget half, the box losses are
    left out.

    Args:
        alpha (float): Weight of what is kept, above 0 and below 1; a list in
            a config has one value a step. The paper tunes it for each data
            set. Defaults to 0.95.
    """

    name = 'neg_grad_plus'
    ends_at_zero = False
    per_step = ('alpha',)

    def __init__(self, alpha: float = 0.95) -> None:
        super().__init__()
        if not isinstance(alpha, int | float) or not 0 < alpha < 1:
            raise ConfigError(
                f'method.alpha = {alpha!r}: must be a number above 0 and '
                'below 1'
            )
        self.alpha = alpha

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        ce = forget.loss_cls
        yield {
            'loss_forget': -(1 - self.alpha) * ce,
            'ce_forget': ce.detach(),
        }
        yield {'loss_retain': self.alpha * retain.loss}
