"""Checks of the numbers that methods take."""

import math

from gslora_mm.utils import ConfigError


def check_weights(**values: float) -> None:
    """Raise a ConfigError for an argument that is no finite number >= 0."""
    for key, value in values.items():
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(
                f'method.{key} = {value!r}: must be a finite number >= 0'
            )


def check_bounds(**values: float) -> None:
    """Raise a ConfigError for an argument that is no finite number > 0."""
    for key, value in values.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ConfigError(
                f'method.{key} = {value!r}: must be a finite number > 0'
            )


def check_counts(**values: int) -> None:
    """Raise a ConfigError for an argument that is no integer >= 1."""
    for key, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(
                f'method.{key} = {value!r}: must be an integer >= 1'
            )


def check_seeds(**values: int) -> None:
    """Raise a ConfigError for an argument that is no seed of a generator."""
    for key, value in values.items():
        if not isinstance(value, int) or not 0 <= value < 2**32:
            raise ConfigError(
                f'method.{key} = {value!r}: must be an integer in 0 ... '
                '2**32 - 1'
            )
