"""Numbers and names in texts for people."""

from collections.abc import Sequence


def percent(score: float | None, digits: int = 1) -> str:
    """A score as percent, such as ``'86.3'``; ``'-'`` where there is none.

    Args:
        score (float | None): Fraction of 1.
        digits (int): After the point. Defaults to 1.
    """
    return '-' if score is None else f'{100 * score:.{digits}f}'


def shortened(names: Sequence[str], most: int) -> str:
    """Some names, and how many more there are: ``'a, b and 3 more'``.

    Args:
        names (Sequence[str]): All of them.
        most (int): How many are shown.
    """
    shown = ', '.join(names[:most])
    return shown + f' and {len(names) - most} more' * (len(names) > most)
