"""Finished runs side by side: mean and spread over seeds, per step."""

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from gslora_mm.utils import ConfigError, load_json
from .report import SCORE_NAMES
from .tables import markdown_table

#: Columns about scores, with ``{}`` for the name of the score, and digits.
SCORES = {
    '{}_f': 2,
    '{}_r': 2,
    '{}_r lost': 2,
    '{}_o': 2,
    'H': 2,
    'H / bound': 3,
    'zero groups': 1,
}
#: The same and what a run costs.
SCORES_AND_COST = {
    **SCORES,
    'groups': 0,
    'trained %': 3,
    'seconds': 1,
}


def read_report(work_dir: str | os.PathLike) -> dict:
    """The ``report.json`` of a run.

    Raises:
        ConfigError: If there is none.
    """
    try:
        return load_json(Path(work_dir) / 'report.json')
    except FileNotFoundError:
        raise ConfigError(
            f'{str(work_dir)!r} has no report.json; valid is the work dir of '
            'a sequence with at least one finished step'
        ) from None


def figures(step: Mapping) -> dict[str, float | None]:
    """What the columns show of one step of one run; scores in percent.

    Args:
        step (Mapping): An entry of ``steps`` in ``report.json``.

    Returns:
        dict[str, float | None]: By column, see :data:`SCORES_AND_COST`.
    """
    before, after = step['retain_before'], step['retain_score']
    bound, h = step['h_mean_upper_bound'], step['h_mean']
    groups = step['groups'].values()
    return {
        '{}_f': _percent(step['forget_score']),
        '{}_r': _percent(after),
        '{}_r lost': _percent(before - after)
        if None not in (before, after)
        else None,
        '{}_o': _percent(step['old_score']),
        'H': _percent(h),
        'H / bound': h / bound if bound and h is not None else None,
        'zero groups': sum(not group['active'] for group in groups),
        'groups': len(groups),
        'trained %': _percent(step.get('trainable_share')),
        'seconds': step.get('train_seconds'),
    }


def comparison_table(
    runs: Mapping[str, Sequence[Mapping]],
    columns: Mapping[str, int] = SCORES,
) -> str:
    """A Markdown table, one row a name and step.

    Args:
        runs (Mapping[str, Sequence[Mapping]]): By name the reports of runs
            that differ only in their seeds: mean and standard deviation
            over them are shown.
        columns (Mapping[str, int]): Columns with their digits.
            Defaults to :data:`SCORES`.

    Returns:
        str: The table.

    Raises:
        ConfigError: If the runs of a name have not equally many steps.
    """
    metrics = {
        report['pretrained']['metric']
        for reports in runs.values()
        for report in reports
    }
    score = 'score'
    if len(metrics) == 1:
        (metric,) = metrics
        score = SCORE_NAMES.get(metric, metric)
    rows = []
    for name, reports in runs.items():
        if len({len(report['steps']) for report in reports}) > 1:
            raise ConfigError(f'{name}: the runs have not equally many steps')
        for step in range(len(reports[0]['steps'])):
            found = [figures(report['steps'][step]) for report in reports]
            cells = [
                _spread([each[column] for each in found], digits)
                for column, digits in columns.items()
            ]
            rows.append([name, str(len(reports)), str(step + 1), *cells])
    header = [column.format(score) for column in columns]
    return markdown_table(['Run', 'Runs', 'Step', *header], rows) + '\n'


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _spread(values: Sequence[float | None], digits: int) -> str:
    """Mean and standard deviation, as text."""
    values = [value for value in values if value is not None]
    if not values:
        return '-'
    text = f'{statistics.mean(values):.{digits}f}'
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):.{digits}f}'
    return text
