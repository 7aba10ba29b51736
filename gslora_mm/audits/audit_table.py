"""An audit as Markdown."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from gslora_mm.reports.attacks import (
    setting_in_words,
    verdict,
    worst_class,
)
from gslora_mm.reports.rendering import Table, render_template
from gslora_mm.utils.text import percent, shortened
from .run import known_attacks


def render_audit(audit: Mapping) -> str:
    """Write ``audit.json`` as Markdown.

    Args:
        audit (Mapping): See :meth:`gslora_mm.audits.Audit.attack`.

    Returns:
        str: A table an attack; figures in percent.
    """
    known = known_attacks()
    groups = []
    for name, entries in groupby(audit['attacks'], lambda each: each['name']):
        entries = list(entries)
        groups.append(
            dict(
                name=name,
                metric=entries[0]['metric'],
                resisting=known[name].resisting if name in known else '',
                table=_table(entries),
            )
        )
    context = dict(
        audit=audit, groups=groups, classes=shortened(audit['classes'])
    )
    return render_template('gslora_mm.audits', 'audit.md.j2', context)


def _table(entries: Sequence[Mapping]) -> Table:
    """A row for each setting."""
    header = [
        'Setting',
        'Pre-trained',
        'After',
        'Interval',
        'Retrained',
        'Allowed',
        'Verdict',
        'Worst class',
    ]
    rows = []
    for entry in entries:
        low, high = entry['after_interval']
        rows.append(
            [
                setting_in_words(entry['setting']) or '-',
                percent(entry['pretrained']),
                percent(entry['after']),
                f'{percent(low)} to {percent(high)}',
                ', '.join(map(percent, entry['retrained'])) or '-',
                percent(entry['allowed']),
                verdict(entry),
                worst_class(entry),
            ]
        )
    return Table(header, rows, left=1)
