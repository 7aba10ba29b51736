"""What methods are compared by, from the reports of their runs."""

import statistics
from collections.abc import Mapping, Sequence

from gslora_mm.utils.spread import spread
from gslora_mm.work_dir import StepDir

#: Of a step's figures, those with a mean over the steps of a run.
MEANS = (
    'seconds',
    'iterations',
    'trainable_share',
    'stored_bytes',
    'gap',
)


def mean_h(steps: Sequence[Mapping]) -> float:
    """Mean H-Mean of some steps; one that is not defined counts as 0.

    Args:
        steps (Sequence[Mapping]): Entries of ``steps`` in report.json.
    """
    return statistics.fmean(step['h_mean'] or 0.0 for step in steps)


def gap(
    scores: Mapping[str, float | None], others: Mapping[str, float | None]
) -> float | None:
    """Mean absolute difference of the scores of two models.

    Args:
        scores (Mapping): Score by class name; None if there is none.
        others (Mapping): The same of the other model.

    Returns:
        float | None: Mean over the classes that have both scores; None if
        no class has.
    """
    differences = [
        abs(score - others[name])
        for name, score in scores.items()
        if score is not None and others.get(name) is not None
    ]
    return statistics.fmean(differences) if differences else None


def stored_bytes(step: StepDir) -> int | None:
    """What has to be kept of a step to have its model.

    Args:
        step (StepDir): Work dir of the step.

    Returns:
        int | None: Size of the adapter - of the whole model where there is
        none - and of what the method carries on; None if it is not there.
    """
    sizes = [
        path.stat().st_size
        for path in (step.adapter, step.merged)
        if path.exists()
    ]
    if not sizes:
        return None
    state = step.method_state
    return sizes[0] + (state.stat().st_size if state.exists() else 0)


def step_figures(
    step: Mapping, step_dir: StepDir, reference: Mapping | None
) -> dict:
    """What is compared of one step of one run.

    Args:
        step (Mapping): Its entry in report.json.
        step_dir (StepDir): Its work dir.
        reference (Mapping | None): The same step of the run of the
            reference method with the same seed, or None.

    Returns:
        dict: Scores are fractions of 1. ``seconds`` are those of training
        and of what the method prepares before.
    """
    keys = ('step', 'forget_score', 'retain_score', 'old_score', 'h_mean')
    costs = ('iterations', 'trainable_share', 'peak_memory_mb')
    return {
        **{key: step[key] for key in (*keys, *costs)},
        'seconds': step['prepare_seconds'] + step['train_seconds'],
        'stored_bytes': stored_bytes(step_dir),
        'gap': reference and gap(step['per_class'], reference['per_class']),
    }


def run_figures(steps: Sequence[Mapping]) -> dict:
    """What is compared of a whole run.

    Args:
        steps (Sequence[Mapping]): From :func:`step_figures`.

    Returns:
        dict: Means over the steps, the highest peak of memory, and in
        ``left_score`` the highest score of any step on what it forgot or
        what was forgotten before. H-Mean says nothing of the latter.
    """
    left = [
        step[key] for step in steps for key in ('forget_score', 'old_score')
    ]
    return {
        'h_mean': mean_h(steps),
        'left_score': max((s for s in left if s is not None), default=None),
        **{
            key: spread([step[key] for step in steps])['mean'] for key in MEANS
        },
        'peak_memory_mb': max(step['peak_memory_mb'] for step in steps),
    }
