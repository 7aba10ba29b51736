"""The result of linear probes as Markdown."""

import textwrap
from collections.abc import Mapping

from gslora_mm.reports.tables import markdown_table

_LETTERS = dict(forget='f', old='o', retain='r', missing='m', learned='l')
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
    data = result['data']
    kind = 'objects' if result['task'] == 'detection' else 'images'
    chosen = 'all training images'
    if data['shots'] is not None:
        chosen = f'{data["shots"]} training images for each class'
    elif data['share'] is not None:
        chosen = f'{data["share"]:.0%} of the training images'
    present = [
        f'{letter}: {_MEANINGS[name]}'
        for name, letter in _LETTERS.items()
        if any(name in step['splits'] for step in result['steps'])
    ]
    parts = ['# Linear probe']
    parts.append(
        textwrap.fill(
            'Accuracy in percent on classes by what became of them '
            f'({", ".join(present)}). Probe: a new linear classifier, '
            f'trained on the frozen features of {chosen} '
            f'({data["training_rows"]} {kind} of all classes). Head: the '
            'class layer of the model itself. Both on '
            f'{data["validation_rows"]} {kind} of the validation set. Seed '
            f'of all choices: {data["seed"]}.',
            79,
        )
    )
    for step in result['steps']:
        splits = [name for name in _LETTERS if name in step['splits']]
        header = ['Model'] + [
            f'{title} {_LETTERS[name]}'
            for title in ('Probe', 'Head')
            for name in splits
        ]
        rows = [
            [row['model']]
            + [
                _percent(row[title][name])
                for title in ('probe', 'head')
                for name in splits
            ]
            for row in step['rows']
        ]
        parts.append(f'## Step {step["step"]}')
        parts.append(
            textwrap.fill(
                'Forgets ' + ', '.join(step['splits']['forget']) + '.',
                79,
                break_on_hyphens=False,
            )
        )
        parts.append(markdown_table(header, rows))
    return '\n\n'.join(parts) + '\n'


def _percent(score: float | None) -> str:
    return '-' if score is None else f'{100 * score:.1f}'
