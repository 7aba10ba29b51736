"""One step's scores, in the shape of report.json."""

import math
from collections.abc import Mapping, Sequence

from .h_mean import h_mean

SPLITS = ('forget', 'retain', 'old', 'missing')
_PER_CLASS = 'per_class/'
_OF_VERIFICATION = ('verification_', 'tar@far=')


def split_scores(
    per_class: Mapping[str, float | None],
    splits: Mapping[str, Sequence[str]],
) -> dict[str, float | None]:
    """Mean score of the classes of each split.

    Args:
        per_class (Mapping): Score by class name; None or NaN for a class
            that has no ground truth.
        splits (Mapping): Class names by split name.

    Returns:
        dict: By split name the mean over its classes that have a score; None
        if none of them has.
    """
    scores = {}
    for split, names in splits.items():
        valid = [
            score
            for score in map(_valid, map(per_class.get, names))
            if score is not None
        ]
        scores[split] = math.fsum(valid) / len(valid) if valid else None
    return scores


def step_result(
    step: int,
    splits: Mapping[str, Sequence[str]],
    metrics_now: Mapping[str, float | None],
    metrics_before: Mapping[str, float | None],
    metric_key: str = 'mAP',
) -> dict:
    """Scores of one finished step next to those of the pre-trained model.

    A split's score is the metrics' own ``{split}/{metric_key}``, or the mean
    of its classes' ``per_class/{name}`` if they have none. The pre-trained
    model is evaluated once for all steps, so there the key is
    ``step_{step:02d}.{split}/{metric_key}``; it is needed where a split's
    score is not the mean of its classes (scores on the split's own images
    only, accuracies of unbalanced classes).

    Args:
        step (int): Number of the step, from 1 on.
        splits (Mapping): Class names of ``forget``, ``retain``, ``old`` and
            ``missing``, and ``learned`` where a sequence learns classes;
            a split that is left out is empty.
        metrics_now (Mapping): Flat metrics of the model after this step.
        metrics_before (Mapping): Flat metrics of the pre-trained model.
        metric_key (str): The metric's name. Defaults to 'mAP'.

    Returns:
        dict: ``step``, the class lists, ``{split}_score`` and
        ``{split}_before``, ``h_mean``, ``h_mean_upper_bound`` and
        ``per_class``, and ``worst``: of each of the first three splits the
        name and the score of the class that a mean may hide, see
        :func:`worst_classes`. Fractions of 1; None where a score is not
        defined (``old`` at step 1). The upper bound is the H-Mean of
        forgetting to 0 with the pre-trained score on the retain classes
        kept. There is a ``learned`` only if any class has been learned, and
        a ``verification`` - by split and metric the values ``before`` and
        ``now`` - only if faces were verified.
    """
    learned = splits.get('learned')
    names = (*SPLITS, 'learned') if learned else SPLITS
    splits = {split: list(splits.get(split, ())) for split in names}
    now = _scores(splits, metrics_now, '', metric_key)
    before = _scores(splits, metrics_before, f'step_{step:02d}.', metric_key)

    verification = _verification(
        splits, metrics_now, metrics_before, f'step_{step:02d}.'
    )
    drop = None
    if before['forget'] is not None and now['forget'] is not None:
        drop = before['forget'] - now['forget']
    return dict(
        step=step,
        **splits,
        **{f'{split}_score': now[split] for split in splits},
        **{f'{split}_before': before[split] for split in splits},
        h_mean=h_mean(now['retain'], drop),
        h_mean_upper_bound=h_mean(before['retain'], before['forget']),
        per_class=per_class_scores(metrics_now),
        worst=worst_classes(
            splits,
            per_class_scores(metrics_now),
            per_class_scores(metrics_before),
        ),
        **({'verification': verification} if verification else {}),
    )


def worst_classes(
    splits: Mapping[str, Sequence[str]],
    now: Mapping[str, float | None],
    before: Mapping[str, float | None],
) -> dict[str, list | None]:
    """The classes that the mean of a split may hide.

    Args:
        splits (Mapping): Class names by split name.
        now (Mapping): Score by class name after the step.
        before (Mapping): The same of the pre-trained model.

    Returns:
        dict[str, list | None]: Name and score of the class of ``forget`` and
        of ``old`` that is found best, and name and change of the score of
        the class of ``retain`` that lost most; None without any.
    """
    found = {
        split: {
            name: now[name]
            for name in splits[split]
            if now.get(name) is not None
        }
        for split in ('forget', 'old', 'retain')
    }
    changes = {
        name: score - before[name]
        for name, score in found.pop('retain').items()
        if before.get(name) is not None
    }
    return {
        **{
            split: [*max(scores.items(), key=lambda item: item[1])]
            if scores
            else None
            for split, scores in found.items()
        },
        'retain': [*min(changes.items(), key=lambda item: item[1])]
        if changes
        else None,
    }


def _verification(
    splits: Mapping[str, Sequence[str]],
    metrics_now: Mapping[str, float | None],
    metrics_before: Mapping[str, float | None],
    prefix: str,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """What :class:`FaceVerification` found out about each split."""
    found: dict[str, dict] = {}
    for split in splits:
        for key, now in metrics_now.items():
            name = key.removeprefix(f'{split}/')
            if name == key or not name.startswith(_OF_VERIFICATION):
                continue
            before = metrics_before.get(prefix + key)
            found.setdefault(split, {})[name] = dict(
                before=None if before is None else _valid(before),
                now=_valid(now),
            )
    return found


def per_class_scores(
    metrics: Mapping[str, float | None],
) -> dict[str, float | None]:
    """The ``per_class/{name}`` entries of flat metrics, by class name."""
    return {
        key.removeprefix(_PER_CLASS): _valid(value)
        for key, value in metrics.items()
        if key.startswith(_PER_CLASS)
    }


def _scores(
    splits: Mapping[str, Sequence[str]],
    metrics: Mapping[str, float | None],
    prefix: str,
    metric_key: str,
) -> dict[str, float | None]:
    """Score of each split: the metrics' own, else its classes' mean."""
    scores = split_scores(per_class_scores(metrics), splits)
    for split, names in splits.items():
        key = f'{prefix}{split}/{metric_key}'
        if names and key in metrics:
            scores[split] = _valid(metrics[key])
    return scores


def _valid(score: float | None) -> float | None:
    """The score as a float; None if it is missing or NaN."""
    if score is None or math.isnan(score):
        return None
    return float(score)
