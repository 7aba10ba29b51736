"""Figures and names as they stand in messages, tables and titles."""

from collections.abc import Iterable


def percent(score: float | None, digits: int = 1) -> str:
    """A fraction of 1 in percent, without the sign; ``-`` for None.

    Args:
        score (float, optional): Such as 0.8512.
        digits (int): Decimals. Defaults to 1.

    Returns:
        str: Such as ``'85.1'``.
    """
    return '-' if score is None else f'{100 * score:.{digits}f}'


def duration(seconds: float) -> str:
    """A length of time, as one speaks of it.

    Args:
        seconds (float): Such as 750.

    Returns:
        str: Such as ``'12 minutes'``.
    """
    for unit, length in (('hours', 3600), ('minutes', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.0f} {unit}'
    return f'{seconds:.0f} seconds' if seconds >= 1.5 else 'a second'


def shortened(names: Iterable[str], most: int = 20, width: int = 0) -> str:
    """The first of some names, and how many more there are.

    Args:
        names (Iterable[str]): The names.
        most (int): How many to show at most. Defaults to 20.
        width (int): Characters that fit; fewer names are shown to keep to
            it, but at least one. Defaults to 0, that is, any number.

    Returns:
        str: Such as ``'a, b and 3 more'``.
    """
    names = [str(name) for name in names]
    count = min(most, len(names))
    while True:
        text = ', '.join(names[:count])
        if count < len(names):
            text += f' and {len(names) - count} more'
        if count <= 1 or not width or len(text) <= width:
            return text
        count -= 1
