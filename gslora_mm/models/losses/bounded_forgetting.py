import math

from torch import Tensor

from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError
from .weighted_loss import WeightedLoss


def bounded_forgetting_loss(loss: Tensor, bound: float) -> Tensor:
    r"""Push a loss up, but only to a bound.

    .. math:: L_{forget} = \mathrm{ReLU}(BND - L)

    Its gradient is that of :math:`-L` below the bound and zero from there
    on, so that forgetting cannot run away (GS-LoRA, Eq. 5).

    Args:
        loss (Tensor): The loss on the forget batch, any shape.
        bound (float): The bound BND, positive.

    Returns:
        Tensor: Same shape as ``loss``.

    Raises:
        ValueError: If the bound is not positive.
    """
    if bound <= 0:
        raise ValueError(f'bound must be positive, got {bound}')
    return (bound - loss).relu()


@MODELS.register_module()
class BoundedForgettingLoss(WeightedLoss):
    """:func:`bounded_forgetting_loss` as a module.

    Args:
        bound (float): BND, positive.
        loss_weight (float): Factor of the loss, not negative. Defaults to
            1.0.

    Raises:
        ConfigError: If bound or weight is no such number.
    """

    def __init__(self, bound: float, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if not (isinstance(bound, int | float) and 0 < bound < math.inf):
            raise ConfigError('bound', bound, 'must be a finite number > 0')
        self.bound = bound

    def forward(self, loss: Tensor) -> Tensor:
        """Push a loss up to the bound.

        Args:
            loss (Tensor): The loss on the forget batch, any shape.

        Returns:
            Tensor: Same shape as ``loss``.
        """
        return self.loss_weight * bounded_forgetting_loss(loss, self.bound)
