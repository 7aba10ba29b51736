"""From similarities of pairs to the figures of face verification."""

import math
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve


def verification_scores(
    scores: np.ndarray,
    same: np.ndarray,
    far: Sequence[float] = (1e-3, 1e-2),
    folds: int = 10,
) -> dict[str, float]:
    """All figures of a set of pairs.

    A similarity that is not finite, as of a model that has been damaged,
    counts as the lowest of all: such a pair shows two identities.

    Args:
        scores (np.ndarray): Similarities, shape (N, ).
        same (np.ndarray): Whether a pair shows one identity, bool, (N, ).
        far (Sequence[float]): False accept rates. Defaults to (1e-3, 1e-2).
        folds (int): Parts for the choice of the threshold. Defaults to 10.

    Returns:
        dict: ``verification_accuracy``, ``verification_auc`` and one
        ``tar@far=...`` for each rate; NaN where they are not defined.
    """
    usable = np.isfinite(scores)
    lowest = scores[usable].min(initial=0.0) - 1
    scores = np.where(usable, scores, lowest)
    return dict(
        verification_accuracy=threshold_accuracy(scores, same, folds),
        verification_auc=area_under_curve(scores, same),
        **{
            f'tar@far={rate:g}': tar_at_far(scores, same, rate) for rate in far
        },
    )


def threshold_accuracy(
    scores: np.ndarray, same: np.ndarray, folds: int = 10
) -> float:
    """Share of pairs on the right side of a threshold chosen elsewhere.

    The protocol of LFW (Huang et al., 2007): the pairs are divided into
    parts, the threshold for each part is the best one of all others, and
    the accuracies of the parts are averaged. The parts here take turns, for
    the two kinds of pairs apart, so that the order of a list of pairs, with
    all pairs of one kind first, say, does not matter.

    Args:
        scores (np.ndarray): Similarities, shape (N, ).
        same (np.ndarray): Whether a pair shows one identity, bool, (N, ).
        folds (int): Parts; as many as there are pairs of the rarer kind, if
            these are fewer. Defaults to 10.

    Returns:
        float: NaN with fewer than two pairs of either kind.
    """
    folds = min(folds, int(same.sum()), int((~same).sum()))
    if folds < 2:
        return math.nan
    part = np.empty(len(same), int)
    for kind in (same, ~same):
        part[kind] = np.arange(kind.sum()) % folds
    accuracies = []
    for fold in range(folds):
        held = part == fold
        threshold = best_threshold(scores[~held], same[~held])
        accuracies.append(np.mean((scores[held] >= threshold) == same[held]))
    return float(np.mean(accuracies))


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """Threshold that most pairs are on the right side of.

    Args:
        scores (np.ndarray): Similarities, shape (N, ), N > 0.
        same (np.ndarray): Whether a pair shows one identity, bool, (N, ).

    Returns:
        float: Half-way between two similarities (the middle of the best
        places), or beyond the lowest or the highest one.
    """
    order = np.argsort(scores)
    ordered, kinds = scores[order], same[order]
    # right[k]: pairs judged rightly if the k lowest are called different
    right = (
        np.concatenate([[0], np.cumsum(~kinds)])
        + kinds.sum()
        - np.concatenate([[0], np.cumsum(kinds)])
    )
    # Equal similarities cannot be parted.
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    right[~possible] = -1
    best = np.flatnonzero(right == right.max())
    cut = best[len(best) // 2]
    if cut == 0:
        return float(ordered[0]) - 1
    if cut == len(ordered):
        return float(ordered[-1]) + 1
    return (float(ordered[cut - 1]) + float(ordered[cut])) / 2


def tar_at_far(scores: np.ndarray, same: np.ndarray, far: float) -> float:
    """Share of pairs of one identity accepted at a false accept rate.

    The threshold is the lowest one at which at most ``far`` of the pairs of
    two identities pass. Fewer than ``1 / far`` of them cannot tell such a
    rate from 0.

    Args:
        scores (np.ndarray): Similarities, shape (N, ).
        same (np.ndarray): Whether a pair shows one identity, bool, (N, ).
        far (float): False accept rate, in [0, 1).

    Returns:
        float: NaN if pairs of either kind are missing, or are too few.
    """
    if same.all() or not same.any():
        return math.nan
    if 0 < far * (~same).sum() < 1 - 1e-9:
        return math.nan
    false_rates, true_rates, _ = roc_curve(
        same, scores, drop_intermediate=False
    )
    return float(true_rates[false_rates <= far + 1e-9].max())


def area_under_curve(scores: np.ndarray, same: np.ndarray) -> float:
    """Chance that a pair of one identity is more alike than one of two.

    The area under the ROC curve; ties count half.

    Args:
        scores (np.ndarray): Similarities, shape (N, ).
        same (np.ndarray): Whether a pair shows one identity, bool, (N, ).

    Returns:
        float: NaN if pairs of either kind are missing.
    """
    if same.all() or not same.any():
        return math.nan
    return float(roc_auc_score(same, scores))
