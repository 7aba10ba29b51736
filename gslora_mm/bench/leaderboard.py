"""The results of a suite as Markdown."""

import re
import textwrap
from collections.abc import Mapping, Sequence

from gslora_mm.reports.rendering import render_template
from gslora_mm.utils.spread import spread_text
from gslora_mm.utils.tables import markdown_table
from gslora_mm.utils.text import percent

#: Columns of what a method costs: key, title, factor and digits.
_COSTS = (
    ('seconds', 's/step', 1, 0),
    ('iterations', 'it/step', 1, 0),
    ('peak_memory_mb', 'peak MiB', 1, 0),
    ('trainable_share', 'trained %', 100, 2),
    ('stored_bytes', 'stored kB/step', 1e-3, 1),
)
#: Columns of what attacks find more than after retraining, by attack.
_ATTACKS = dict(
    linear_probe='probe', relearning='relearn', localisation='found'
)
_MOST_OF_A_NOTE = 70
_WIDTH = 100


def render_leaderboard(results: Mapping, figures: Mapping[str, str]) -> str:
    """Write the results of a suite as Markdown.

    Args:
        results (Mapping): As
            :func:`gslora_mm.bench.results.collect` returns them,
            with ``command``.
        figures (Mapping[str, str]): File of each figure, by its title.

    Returns:
        str: The text.
    """
    text = render_template(
        'gslora_mm.bench',
        'leaderboard.md.j2',
        dict(
            results,
            figures=figures,
            leaderboard=_leaderboard(results),
            chosen='; '.join(
                f'{method["name"]} {_chosen(method)}'
                for method in results['methods']
                if method['chosen'] and method['chosen']['values']
            ),
            long_notes=[
                f'* {method["name"]}: {note}'
                for method in results['methods']
                for note in _notes(method, results['reference'])
                if len(_note(method, results)) > _MOST_OF_A_NOTE
            ],
            scores=_scores(results),
            attacks=_attacks(results.get('attacks', {})),
            finds='localisation' in results.get('attacks', {}),
            trials=results['tuning'] and _trials(results),
        ),
        filters=dict(
            bullets=_bullets, paragraph=_paragraph, span=_span, pairs=_pairs
        ),
    )
    return text.rstrip('\n') + '\n'


def _bullets(text: str) -> str:
    """Each line as an item of a list; those that are indented go on."""
    return '\n'.join(
        textwrap.fill(
            line,
            _WIDTH,
            initial_indent='- ',
            subsequent_indent='  ',
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in re.sub(r'\n +', ' ', text).splitlines()
        if line.strip()
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(' '.join(text.split()), _WIDTH)


def _span(days: Sequence[str]) -> str:
    """The first and the last of some days in order."""
    if not days:
        return 'unknown'
    return days[0] + f' to {days[-1]}' * (days[-1] != days[0])


def _pairs(settings: Mapping) -> str:
    return ', '.join(f'{key}={value}' for key, value in settings.items())


def _chosen(method: Mapping) -> str:
    """Settings that were tried out, by the last part of their keys."""
    return ', '.join(
        f'{key.rpartition(".")[2]}={value}'
        for key, value in method['chosen']['values'].items()
    )


def _leaderboard(results: Mapping) -> str:
    steps = [step['step'] for step in results['pretrained'] or ()]
    header = ['Method', 'H', *(f'H {step}' for step in steps), 'left']
    attacks = results.get('attacks', {})
    header += [_ATTACKS[name] for name in attacks]
    header += [*(title for _, title, _, _ in _COSTS), 'gap', 'note']
    rows = []
    for method in results['methods']:
        summary = method['summary']
        cells = ['-'] * (len(header) - 2)
        if summary is not None:
            shares = [summary, *summary['steps']]
            cells = [spread_text(each['h_mean'], 100, 2) for each in shares]
            cells.append(spread_text(summary['left_score'], 100, 2))
            cells += [
                spread_text(summary['distances'][name], 100, 1)
                for name in attacks
            ]
            cells += [
                spread_text(summary[key], factor, digits, is_constant=True)
                for key, _, factor, digits in _COSTS
            ]
            cells.append(spread_text(summary['gap'], 100, 2))
        note = _note(method, results).replace('|', '/')
        note = textwrap.shorten(note, _MOST_OF_A_NOTE)
        rows.append([method['name'], *cells, note])
    return markdown_table(header, rows, left={0, len(header) - 1})


def _note(method: Mapping, results: Mapping) -> str:
    return '; '.join(_notes(method, results['reference']))


def _notes(method: Mapping, reference: str) -> list[str]:
    """What has to be said about a row."""
    if method['reason']:
        return [method['reason']]
    notes = [
        f'seed {run["seed"]} failed: {run["error"]}'
        for run in method['runs']
        if run['error']
    ]
    notes += [
        f'trial {trial["number"]} failed: {trial["error"]}'
        for trial in method['trials']
        if trial['error']
    ]
    notes += [
        f'audit of seed {run["seed"]} failed: {run["audit"]["error"]}'
        for run in method['runs']
        if 'error' in run.get('audit', ())
    ]
    finished = [run for run in method['runs'] if not run['error']]
    if 0 < len(finished) < len(method['runs']):
        notes.append(
            f'means are of {len(finished)} of {len(method["runs"])} seeds'
        )
    gaps = [run for run in finished if run['figures']['gap'] is not None]
    if 0 < len(gaps) < len(finished):
        notes.append(
            f'gap of {len(gaps)} of {len(finished)} seeds: '
            f'{reference} lacks the rest'
        )
    return notes


def _scores(results: Mapping) -> str:
    """Scores of each step, beside those of the pre-trained model."""
    before = results['pretrained'] or ()
    columns = [
        (index, split)
        for index, step in enumerate(before)
        for split in ('forget', 'retain', 'old')
        if step[f'{split}_before'] is not None
    ]
    score = results['score']
    header = [
        f'{score}_{split[0]} {before[index]["step"]}'
        for index, split in columns
    ]
    scores = [percent(before[i][f'{split}_before'], 2) for i, split in columns]
    rows = [['(pre-trained)', *scores]]
    for method in results['methods']:
        if method['summary']:
            steps = method['summary']['steps']
            cells = [
                spread_text(steps[index][f'{split}_score'], 100, 2)
                for index, split in columns
            ]
            rows.append([method['name'], *cells])
    return markdown_table(['Method', *header], rows)


def _attacks(attacks: Mapping[str, Mapping]) -> str:
    """What attacks find in the models that runs are compared with."""
    return '; '.join(
        f'{_ATTACKS[name]}: {percent(found["pretrained"])} in the '
        f'pre-trained model, {", ".join(map(percent, found["retrained"]))} '
        'after retraining'
        for name, found in attacks.items()
    )


def _trials(results: Mapping) -> str:
    rows = []
    for method in results['methods']:
        trials, chosen = method['trials'], method['chosen']
        if len(trials) < 2:
            continue
        is_all = len(trials) < results['tuning']['budget']
        rows.append(
            [
                method['name'],
                'all ' * is_all + str(len(trials)),
                percent(trials[0]['h_mean'], 2),
                percent(chosen and chosen['h_mean'], 2),
                _chosen(method) if chosen else 'all trials failed',
            ]
        )
    header = ['Method', 'Trials', 'H as it is', 'H chosen', 'Chosen']
    return markdown_table(header, rows, left={0, 4})
