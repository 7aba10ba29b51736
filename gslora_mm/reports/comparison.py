"""Finished runs side by side: mean and spread over seeds, per step."""

from collections.abc import Mapping, Sequence

from gslora_mm.utils import ConfigError
from gslora_mm.utils.spread import spread, spread_text
from gslora_mm.utils.tables import markdown_table
from .report import name_of_score

#: Columns about scores, with ``{}`` for the name of the score, and digits.
SCORES = {
    '{}_f': 2,
    '{}_r': 2,
    '{}_r lost': 2,
    '{}_o': 2,
    '{}_m': 2,
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


def figures(step: Mapping) -> dict[str, float | None]:
    """What the columns show of one step of one run; scores in percent.

    Args:
        step (Mapping): An entry of ``steps`` in ``report.json``.

    Returns:
        dict[str, float | None]: By column, see :data:`SCORES_AND_COST`.
    """
    before, after = step['retain_before'], step['retain_score']
    lost = None if None in (before, after) else before - after
    shares = {
        '{}_f': step['forget_score'],
        '{}_r': after,
        '{}_r lost': lost,
        '{}_o': step['old_score'],
        '{}_m': step.get('missing_score'),
        'H': step['h_mean'],
        'trained %': step.get('trainable_share'),
    }
    bound, h = step['h_mean_upper_bound'], step['h_mean']
    groups = step['groups'].values()
    return {
        **{
            name: None if share is None else 100 * share
            for name, share in shares.items()
        },
        'H / bound': h / bound if bound and h is not None else None,
        'zero groups': sum(not group['active'] for group in groups),
        'groups': len(groups),
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
        columns (Mapping[str, int]): Columns with their digits; that of
            retained classes without images is left out where no run has
            any. Defaults to :data:`SCORES`.

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
    score = name_of_score(*metrics) if len(metrics) == 1 else 'score'
    has_missing = any(
        step.get('missing_score') is not None
        for reports in runs.values()
        for report in reports
        for step in report['steps']
    )
    columns = {
        name: digits
        for name, digits in columns.items()
        if has_missing or name != '{}_m'
    }
    rows = []
    for name, reports in runs.items():
        if len({len(report['steps']) for report in reports}) > 1:
            raise ConfigError(
                name, valid='the runs have not equally many steps'
            )
        for step in range(len(reports[0]['steps'])):
            found = [figures(report['steps'][step]) for report in reports]
            cells = [
                spread_text(
                    spread([each[column] for each in found]), 1, digits
                )
                for column, digits in columns.items()
            ]
            rows.append([name, str(len(reports)), str(step + 1), *cells])
    header = [column.format(score) for column in columns]
    return markdown_table(['Run', 'Runs', 'Step', *header], rows) + '\n'
