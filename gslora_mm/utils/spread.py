"""Mean and standard deviation over runs, as figures and as text."""

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation over runs.

    Args:
        values (Sequence[float | None]): None where there is none.

    Returns:
        dict[str, float | None]: ``mean``, None without any value, and
        ``std``, None without two of them.
    """
    there = [value for value in values if value is not None]
    return dict(
        mean=statistics.fmean(there) if there else None,
        std=statistics.stdev(there) if len(there) > 1 else None,
    )


def spread_text(
    found: Mapping[str, float | None],
    factor: float,
    digits: int,
    is_constant: bool = False,
) -> str:
    """Write a :func:`spread`, such as ``'1.25 ± 0.10'``.

    Args:
        found (Mapping[str, float | None]): The spread.
        factor (float): What both figures are multiplied by.
        digits (int): Decimals.
        is_constant (bool): Leave a deviation of zero out, as it goes without
            saying. Defaults to False.
    """
    mean, std = found['mean'], found['std']
    if mean is None:
        return '-'
    text = f'{factor * mean:.{digits}f}'
    if std is None or (is_constant and not round(factor * std, digits)):
        return text
    return f'{text} ± {factor * std:.{digits}f}'
