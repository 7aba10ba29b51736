"""Checks of the arguments that losses get from a config."""

import math
from typing import Any

from gslora_mm.utils import ConfigError


def check_positive(name: str, value: Any) -> None:
    """Raise a ConfigError if a value is not a finite number > 0."""
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise ConfigError(name, value, 'must be a finite number > 0')


def check_loss_weight(value: Any) -> None:
    """Raise a ConfigError if a loss weight is not a finite number >= 0."""
    if not (isinstance(value, int | float) and 0 <= value < math.inf):
        raise ConfigError('loss_weight', value, 'must be a finite number >= 0')
