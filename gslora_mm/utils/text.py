"""Words and numbers, as people read them."""

from collections.abc import Sequence


def percent(score: float | None, digits: int = 1) -> str:
    """A fraction of 1 in percent, or ``-`` if there is none."""
    return '-' if score is None else f'{100 * score:.{digits}f}'


def shortened(names: Sequence[str], most: int = 20) -> str:
    """The first names of a list, and how many more there are."""
    shown = ', '.join(names[:most])
    more = len(names) - most
    return f'{shown} and {more} more' if more > 0 else shown
