from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.registry import METHODS
from .arguments import check_weights
from .der import DER

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class DERPP(DER):
    r"""DER++: Dark Experience Replay, and labels.

    Buzzega, Boschini, Porrello, Abati and Calderara, "Dark Experience for
    General Continual Learning", NeurIPS 2020,
    https://arxiv.org/abs/2004.07211.

    .. math::
        L = \beta\, L_{forget} + \alpha\, \mathrm{mean}_{ik}\,
        (s_{ik} - t_{ik})^2 + \gamma\, CE_{retain}

    :class:`DER` with the classification loss of the retain half. The
    original draws the images of the two terms apart; a step has one retain
    half an iteration, which serves both.

    Args:
        beta (float): As in :class:`DER`. Defaults to 1.0.
        alpha (float): As in :class:`DER`. Defaults to 0.5.
        gamma (float): Weight of the replayed labels, :math:`\beta` of the
            paper; a list in a config has one value a step. Defaults to 0.5.
    """

    name = 'der_pp'
    per_step = (*DER.per_step, 'gamma')

    def __init__(
        self, beta: float = 1.0, alpha: float = 0.5, gamma: float = 0.5
    ) -> None:
        super().__init__(beta, alpha)
        check_weights(gamma=gamma)
        self.gamma = gamma

    def replay(self, retain: HalfBatch) -> Tensor:
        return self.gamma * retain.loss_cls + retain.loss_rest
