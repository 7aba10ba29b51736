"""The result of linear probes as Markdown."""

from collections.abc import Mapping

from gslora_mm.evaluation.splits import LETTERS
from gslora_mm.reports.rendering import Table, render_template
from gslora_mm.tasks import task_named
from gslora_mm.utils.text import percent

#: Splits in the order of the columns, and what became of their classes.
_MEANINGS = dict(
    forget='forgotten at a step',
    old='forgotten before',
    retain='retained',
    missing='retained without replay data',
    learned='learned so far',
)


def render_probe(result: Mapping) -> str:
    """Write the result of linear probes as Markdown.

    Args:
        result (Mapping): See :func:`gslora_mm.audits.probe.probe_work_dir`.

    Returns:
        str: A table a step; accuracies in percent.
    """
    data, steps = result['data'], result['steps']
    chosen = 'all training images'
    if data['shots'] is not None:
        chosen = f'{data["shots"]} training images for each class'
    elif data['share'] is not None:
        chosen = f'{data["share"]:.0%} of the training images'
    context = dict(
        data=data,
        unit=task_named(result['task']).unit,
        chosen=chosen,
        splits=[
            f'{LETTERS[split]}: {meaning}'
            for split, meaning in _MEANINGS.items()
            if any(split in step['splits'] for step in steps)
        ],
        steps=steps,
        tables=[_table(step) for step in steps],
    )
    return render_template('gslora_mm.audits', 'linear_probe.md.j2', context)


def _table(step: Mapping) -> Table:
    """A row for each model, columns for both classifiers and all splits."""
    columns = [
        (kind, split)
        for kind in ('probe', 'head')
        for split in _MEANINGS
        if split in step['splits']
    ]
    header = [f'{kind.title()} {LETTERS[split]}' for kind, split in columns]
    rows = [
        [row['model'], *(percent(row[kind][split]) for kind, split in columns)]
        for row in step['rows']
    ]
    return Table(['Model', *header], rows, left=1)
