"""report.md: tables that read well as Markdown and as plain text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gslora_mm.evaluation.splits import LETTERS
from gslora_mm.utils.text import percent
from .rendering import Table, render_template

TIMING_HEADING = '## Time and memory'
_VERIFICATION = {
    'verification_accuracy': 'Accuracy',
    'verification_auc': 'AUC',
}
#: With more classes, the table shows only those that are forgotten.
_MOST_CLASSES = 200

#: By title what a column shows of a row.
Columns = Mapping[str, Callable[[Any], str]]


def render_markdown(context: Mapping) -> str:
    """Write a report as Markdown.

    Scores are percents with one decimal. Times and memory, which no two runs
    share, stand in the last section, under ``TIMING_HEADING``; everything
    above it is the same for the same run.

    Args:
        context (Mapping): See :func:`report_context`.

    Returns:
        str: The text.
    """
    return render_template('gslora_mm.reports', 'report.md.j2', context)


def report_context(
    report: Mapping,
    score_name: str,
    figures: Mapping[str, str],
    picture_note: str = '',
    evidence: Mapping | None = None,
) -> dict[str, Any]:
    """Put together what a template of a report refers to.

    Args:
        report (Mapping): See :func:`build_report`.
        score_name (str): Short name of the score, e.g. 'AP'.
        figures (Mapping[str, str]): Path of each figure, relative to the
            report: ``scores``, ``groups``, ``pictures``; any may be missing.
        picture_note (str): How to read the pictures. Defaults to ''.
        evidence (Mapping, optional): See :func:`read_evidence`. Defaults to
            None: the scores stand alone.

    Returns:
        dict[str, Any]: The arguments, and ``tables``: the cells of all
        tables, as text.
    """
    steps, pretrained = report['steps'], report['pretrained']
    scores = [s for s in pretrained['per_class'].values() if s is not None]
    splits = ['forget', 'retain', 'old']
    if any(step.get('missing_score') is not None for step in steps):
        splits.append('missing')
    if any(step.get('learned') for step in steps):
        splits.append('learned')
    return dict(
        report=report,
        model=report.get('model'),
        pretrained=pretrained,
        score=score_name,
        scored=_scored(report),
        mean_before=sum(scores) / len(scores) if scores else None,
        splits=splits,
        figures=figures,
        picture_note=picture_note,
        evidence=evidence,
        timing_heading=TIMING_HEADING,
        most_classes=_MOST_CLASSES,
        tables=dict(
            scores=_scores(steps, score_name, splits),
            worst=_worst(steps, score_name),
            verification=_verification(steps),
            adapter=_adapter(steps),
            found=_found(steps),
            classes=_classes(report),
            timing=_timing(report),
        ),
    )


def _scored(report: Mapping) -> str:
    """Which images the scores are of; an older run does not say."""
    if 'validation_images' not in report:
        return 'the validation images'
    scored, found = report['validation_images']
    if scored == found:
        return f'all {found:,} validation images'
    return (
        f'{scored:,} of {found:,} validation images, drawn at random, the '
        'same ones before and after each step'
    )


def _table(columns: Columns, rows: Sequence, left: int = 1) -> Table:
    return Table(
        list(columns),
        [[show(row) for show in columns.values()] for row in rows],
        left,
    )


def _scores(
    steps: Sequence[Mapping], score: str, splits: Sequence[str]
) -> Table:
    def forgotten(step: Mapping) -> str:
        text = ', '.join(step['forget'])
        return text if len(text) <= 30 else f'{len(step["forget"])} classes'

    def ratio(step: Mapping) -> str:
        value, bound = step['h_mean'], step['h_mean_upper_bound']
        return '-' if value is None or not bound else f'{value / bound:.1%}'

    columns: Columns = {
        'Step': lambda step: str(step['step']),
        'Forget': forgotten,
        **{
            f'{score}_{LETTERS[split]}': lambda step, split=split: _change(
                step.get(f'{split}_before'), step.get(f'{split}_score')
            )
            for split in splits
        },
        'H-Mean': lambda step: percent(step['h_mean']),
        'Bound': lambda step: percent(step['h_mean_upper_bound']),
        'H / bound': ratio,
    }
    return _table(columns, steps, left=2)


def _worst(steps: Sequence[Mapping], score: str) -> Table | None:
    """The classes that the means of a step may hide, by name.

    None of a run of an older version, whose steps do not say.
    """
    if not any(step.get('worst') for step in steps):
        return None

    def cell(step: Mapping, split: str, sign: str = '') -> str:
        name, value = (step.get('worst') or {}).get(split) or (None, None)
        return '-' if name is None else f'{name} {100 * value:{sign}.1f}'

    columns: Columns = {
        'Step': lambda step: str(step['step']),
        f'Highest {score} of those forgotten': lambda step: cell(
            step, 'forget'
        ),
        'of those before': lambda step: cell(step, 'old'),
        'Largest loss of those retained': lambda step: cell(
            step, 'retain', '+'
        ),
    }
    return _table(columns, steps, left=4)


def _verification(steps: Sequence[Mapping]) -> Table | None:
    """A row for each step and split; None if no faces were verified."""
    rows = [
        (step['step'], split, scores)
        for step in steps
        for split, scores in (step.get('verification') or {}).items()
    ]
    if not rows:
        return None
    columns: Columns = {
        'Step': lambda row: str(row[0]),
        'Split': lambda row: row[1],
        **{
            _VERIFICATION.get(
                name, name.replace('tar@far=', 'TAR at FAR ')
            ): lambda row, name=name: _change(
                row[2][name]['before'], row[2][name]['now']
            )
            for name in rows[0][2]
        },
    }
    return _table(columns, rows, left=2)


def _adapter(steps: Sequence[Mapping]) -> Table:
    columns: Columns = {
        'Step': lambda step: str(step['step']),
        'Iterations': lambda step: (
            f'{step["iterations"]:,}'
            + ' (early stop)' * bool(step.get('stopped_early'))
        ),
        'Active groups': lambda step: (
            f'{sum(g["active"] for g in step["groups"].values())} of '
            f'{len(step["groups"])}'
            if step['groups']
            else '-'
        ),
        'Trainable parameters': lambda step: (
            f'{step["trainable_parameters"]:,}'
        ),
        'Share of the model': lambda step: f'{step["trainable_share"]:.2%}',
    }
    return _table(columns, steps)


def _found(steps: Sequence[Mapping]) -> Table | None:
    """Settings that have found themselves; None if there are none."""
    found = {
        step['step']: step['found']['AutoScheduleHook']
        for step in steps
        if 'AutoScheduleHook' in (step.get('found') or {})
    }
    if not found:
        return None
    names = dict.fromkeys(
        name for each in found.values() for name in each['settings']
    )

    def began(phase: str) -> Callable[[int], str]:
        return lambda step: next(
            (
                str(each['start'])
                for each in found[step]['course']
                if each['phase'] == phase
            ),
            '-',
        )

    def last(key: str) -> Callable[[int], str]:
        return lambda step: f'{found[step]["course"][-1][key]:.3g}'

    columns: Columns = {
        'Step': str,
        'Learning rate': last('lr'),
        'Weight of forgetting': lambda step: 'x ' + last('weight')(step),
        **{
            name: lambda step, name=name: (
                f'{found[step]["settings"][name]:.3g}'
            )
            for name in names
        },
        'Recovery from': began('repair'),
        'End': lambda step: str(found[step]['course'][-1]['since']),
        # Of runs from before there was such a thing, all of it.
        'Update kept': lambda step: (
            f'{found[step]["course"][-1].get("kept", 1):.0%}'
        ),
    }
    return _table(columns, list(found))


def _classes(report: Mapping) -> Table:
    """One row a class, in the order of the labels."""
    names = classes_to_show(report)

    def cell(step: Mapping, name: str) -> str:
        score = percent(step['per_class'].get(name))
        if name in step['forget']:
            return f'[{score}]'
        return f'({score})' if name in step['old'] else score

    columns: Columns = {
        'Class': str,
        'Before': lambda name: percent(
            report['pretrained']['per_class'].get(name)
        ),
        **{
            f'Step {step["step"]}': lambda name, step=step: cell(step, name)
            for step in report['steps']
        },
    }
    return _table(columns, names)


def classes_to_show(report: Mapping) -> list[str]:
    """All classes, or those that are to be forgotten if there are many."""
    names = report['classes']
    if len(names) <= _MOST_CLASSES:
        return names
    asked = set().union(*report['requests'])
    return [name for name in names if name in asked]


def _timing(report: Mapping) -> Table:
    def number(key: str, digits: int) -> Callable[[Mapping], str]:
        return lambda step: (
            '-' if step.get(key) is None else f'{step[key]:,.{digits}f}'
        )

    columns: Columns = {
        'Step': lambda step: str(step['step']),
        'Training (s)': number('train_seconds', 1),
        'Evaluation (s)': number('eval_seconds', 1),
        'Peak memory (MiB)': number('peak_memory_mb', 0),
    }
    pretrained = report['pretrained'] | dict(step='pre-trained')
    return _table(columns, [pretrained, *report['steps']])


def _change(before: float | None, now: float | None) -> str:
    return '-' if now is None else f'{percent(before)} -> {percent(now)}'
