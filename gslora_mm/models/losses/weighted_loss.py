import math

from torch import nn

from gslora_mm.utils import ConfigError


class WeightedLoss(nn.Module):
    """A loss that has a factor.

    Args:
        loss_weight (float): The factor, not negative. Defaults to 1.0.

    Raises:
        ConfigError: If the weight is no such number.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        is_number = isinstance(loss_weight, int | float)
        if not (is_number and 0 <= loss_weight < math.inf):
            raise ConfigError(
                'loss_weight', loss_weight, 'must be a finite number >= 0'
            )
        self.loss_weight = loss_weight
