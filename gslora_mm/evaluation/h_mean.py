"""H-Mean, the one figure that a forgetting step is judged by."""

import math


def h_mean(retain: float | None, drop: float | None) -> float | None:
    """Harmonic mean of what is kept and what is gone.

    ``H = 2 * retain * drop / (retain + drop)`` with ``drop`` = score of the
    *pre-trained* model on the forget classes - their score now (GS-LoRA,
    arXiv 2403.11530). The result has the unit of the arguments:
    fractions give a fraction, percents give percents.

    Args:
        retain (float, optional): Score on the retain classes now.
        drop (float, optional): Loss of score on the forget classes.

    Returns:
        float or None: The H-Mean. 0 if nothing was kept or nothing was
        forgotten: a harmonic mean is defined for positive numbers only and
        tends to 0 as either of them does (the bare formula would have a pole
        at ``drop = -retain``). None if an argument is None or NaN, that is,
        if a split has no score.

    Example:
        >>> round(h_mean(74.16, 74.65 - 0), 2)
        74.4
    """
    if retain is None or drop is None:
        return None
    if math.isnan(retain) or math.isnan(drop):
        return None
    if retain <= 0 or drop <= 0:
        return 0.0
    return 2 * retain * drop / (retain + drop)
