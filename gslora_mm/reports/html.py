"""report.html: one file to read, to print and to sign, figures included."""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from gslora_mm.utils.text import percent
from .markdown import classes_to_show
from .rendering import Table, render_template


def render_html(context: Mapping, folder: Path) -> str:
    """Write a report as one HTML file that refers to no other.

    Args:
        context (Mapping): See :func:`report_context`, with evidence.
        folder (Path): What the paths of figures start from.

    Returns:
        str: The text, with the date of writing in it.
    """
    figures = {
        name: base64.b64encode((folder / path).read_bytes()).decode()
        for name, path in context['figures'].items()
    }
    tables = context['tables'] | dict(classes=_classes(context['report']))
    return render_template(
        'gslora_mm.reports',
        'report.html.j2',
        {
            **context,
            'figures': figures,
            'tables': tables,
            'annotations': context['report'].get('annotations_sha256') or {},
            'written': f'{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}',
        },
    )


def _classes(report: Mapping) -> Table:
    """A row for each class: what was to become of it, and its scores."""
    before, steps = report['pretrained']['per_class'], report['steps']
    fates = {
        name: f'forgotten at step {number}'
        if number <= len(steps)
        else f'to be forgotten at step {number}'
        for number, request in enumerate(report['requests'], 1)
        for name in request
    }
    if steps:
        fates |= dict.fromkeys(
            steps[-1].get('missing') or (), 'retained without replay data'
        )

    def change(name: str) -> str:
        scores = before.get(name), steps[-1]['per_class'].get(name)
        if None in scores:
            return '-'
        return f'{100 * (scores[1] - scores[0]):+.1f}'

    columns: dict[str, Callable[[str], str]] = {
        'Class': str,
        'Fate': lambda name: fates.get(name, 'retained'),
        'Before': lambda name: percent(before.get(name)),
        **{
            f'Step {step["step"]}': lambda name, step=step: percent(
                step['per_class'].get(name)
            )
            for step in steps
        },
    }
    if steps:
        columns['Change'] = change
    rows = [
        [show(name) for show in columns.values()]
        for name in classes_to_show(report)
    ]
    return Table(list(columns), rows, 2)
