"""What settings an adapter may have, checked where they arrive."""

import math
from typing import Any

from gslora_mm.utils import ConfigError


def check_settings(rank: int, alpha: float, dropout: float) -> None:
    """Refuse settings that no adapter can have.

    Raises:
        ConfigError: If ``rank`` is not an integer >= 1, ``alpha`` not a
            number > 0 or ``dropout`` outside [0, 1).
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ConfigError(
            f'adapter.rank = {rank!r}: it must be an integer of at least 1'
        )
    if not _is_number(alpha) or not 0 < alpha < math.inf:
        raise ConfigError(
            f'adapter.alpha = {alpha!r}: it must be a number above 0'
        )
    if not _is_number(dropout) or not 0 <= dropout < 1:
        raise ConfigError(
            f'adapter.dropout = {dropout!r}: it must be at least 0 and below 1'
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
