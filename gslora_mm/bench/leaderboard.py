"""The results of a benchmark as Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from gslora_mm.reports.report import name_of_score
from gslora_mm.reports.tables import markdown_table

#: Columns of what a method costs: key, title, factor and digits.
_COSTS = (
    ('seconds', 's/step', 1, 0),
    ('iterations', 'it/step', 1, 0),
    ('peak_memory_mb', 'peak MiB', 1, 0),
    ('trainable_share', 'trained %', 100, 2),
    ('stored_bytes', 'stored kB/step', 1e-3, 1),
)
_SPLITS = (
    ('f', 'forget'),
    ('r', 'retain'),
    ('o', 'old'),
)
_MOST_OF_A_NOTE = 70


def render_leaderboard(results: Mapping, figures: Mapping[str, str]) -> str:
    """Write the results of a benchmark as Markdown.

    Args:
        results (Mapping): As
            :func:`gslora_mm.bench.results.collect` returns them,
            with ``command``.
        figures (Mapping[str, str]): File of each figure, by its title.

    Returns:
        str: The text.
    """
    score = score_name(results)
    parts = [f'# {results["title"]}', _header(results)]
    parts.append('## Leaderboard\n\n' + _leaderboard(results))
    parts.append(_legend(results, score))
    parts += _failures(results)
    parts += [f'![{title}]({file})' for title, file in figures.items()]
    if results['pretrained']:
        parts.append(f'## {score} of each step\n\n' + _scores(results, score))
    if results['tuning']:
        parts.append('## Tuning\n\n' + _tuning(results))
    return '\n\n'.join(parts) + '\n'


def score_name(results: Mapping) -> str:
    """Short name of the score, e.g. 'AP'."""
    metric = results['metric'] or 'score'
    return name_of_score(metric)


def _header(results: Mapping) -> str:
    tuning, seeds = results['tuning'], results['seeds']
    numbers = ', '.join(map(str, seeds))
    lines = [
        f'Date: {_span(results["days"])}',
        f'Command: `{results["command"]}`',
        f'Scored on `{results["scored_on"]}`: the last state of each step',
        f'Seeds: {numbers}; mean ± sample standard deviation'
        if len(seeds) > 1
        else f'Seed: {numbers}, a single run of each method',
    ]
    if tuning is None:
        lines.append('Tuning: none, configs as they are')
    else:
        steps = tuning['steps']
        what = (
            'mean H-Mean'
            if steps is None
            else f'H-Mean of the first {"step" if steps == 1 else steps}'
            + ' steps' * (steps > 1)
        )
        lines += [
            f'Tuning: {tuning["budget"]} trials a method, the first one with '
            f'its config as it is; best {what} on `{tuning["scored_on"]}`, '
            f'seed {tuning["seed"]}',
            f'Trials have {_values_of(tuning["settings"])}',
            f'Chosen: {_chosen(results["methods"]) or "nothing"}; all other '
            'settings are those of the configs; all values tried are in '
            '`tuning.search` of the JSON file',
        ]
    ways = [
        f'{way["cores"]} cores, {way["device"]}, torch {way["torch"]}, '
        f'{way["jobs"]} at a time with {way["threads"]} '
        f'thread{"s" * (way["threads"] != "1")} each'
        for way in results['conditions']
    ]
    machine = ' or '.join(ways) or 'unknown'
    lines.append(f'Machine, which the seconds depend on: {machine}')
    return '\n'.join(
        textwrap.fill(
            line,
            100,
            initial_indent='- ',
            subsequent_indent='  ',
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def _span(days: Sequence[str]) -> str:
    """The first and the last of some days in order."""
    if not days:
        return 'unknown'
    return days[0] + f' to {days[-1]}' * (days[-1] != days[0])


def _chosen(methods: Sequence[Mapping]) -> str:
    return '; '.join(
        f'{method["name"]} {_values(method["chosen"])}'
        for method in methods
        if method['chosen'] and method['chosen']['values']
    )


def _values(trial: Mapping) -> str:
    """Searched settings, by the last part of their keys."""
    return ', '.join(
        f'{key.rpartition(".")[2]}={value}'
        for key, value in trial['values'].items()
    )


def _values_of(settings: Mapping) -> str:
    """All settings, by their whole keys."""
    return ', '.join(f'{key}={value}' for key, value in settings.items())


def _leaderboard(results: Mapping) -> str:
    steps = [step['step'] for step in results['pretrained'] or ()]
    header = ['Method', 'H', *(f'H {step}' for step in steps)]
    header += ['left', *(title for _, title, _, _ in _COSTS), 'gap', 'note']
    rows = []
    for method in results['methods']:
        summary = method['summary']
        notes = '; '.join(_notes(method, results)).replace('|', '/')
        note = textwrap.shorten(notes, _MOST_OF_A_NOTE)
        if summary is None:
            dashes = ['-'] * (len(header) - 2)
            rows.append([method['name'], *dashes, note])
            continue
        cells = [_cell(summary['h_mean'], 100, 2)]
        cells += [_cell(each['h_mean'], 100, 2) for each in summary['steps']]
        cells.append(_cell(summary['left_score'], 100, 2))
        cells += [
            _cell(summary[key], factor, digits, is_constant=True)
            for key, _, factor, digits in _COSTS
        ]
        cells.append(_cell(summary['gap'], 100, 2))
        rows.append([method['name'], *cells, note])
    return markdown_table(header, rows, left={0, len(header) - 1})


def _legend(results: Mapping, score: str) -> str:
    bounds = ', '.join(
        _percent(step['h_mean_upper_bound'])
        for step in results['pretrained'] or ()
    )
    text = (
        'Sorted by H, in which good methods hardly differ: read left and gap '
        'beside it. H: H-Mean of what is kept and what is gone, in percent, '
        'mean over the steps and of each step. A model that forgot '
        'everything and scored as before on the rest would have '
        f'{bounds or "an unknown one"}; what is retained may get better, too. '
        f'left: the highest {score} of any step on what it forgot or what had '
        'been forgotten before, which H does not see. '
        's/step: seconds of training and of what the method prepares for it. '
        'it/step: iterations. peak: highest memory of a step while it is '
        'trained, of the process where there is no GPU. trained: share of '
        'the parameters. stored: adapter, or the whole model where there is '
        'none, and what the method carries on, mean over the steps. gap: '
        f'mean absolute difference of the {score} of all classes to '
        f'{results["reference"]}, same step and seed.'
    )
    return textwrap.fill(text, 100)


def _notes(method: Mapping, results: Mapping) -> list[str]:
    """What has to be said about a row."""
    if method['reason']:
        return [method['reason']]
    failed = [
        f'seed {run["seed"]} failed: {run["error"]}'
        for run in method['runs']
        if run['error']
    ]
    failed += [
        f'trial {trial["number"]} failed: {trial["error"]}'
        for trial in method['trials']
        if trial['error']
    ]
    finished = [run for run in method['runs'] if not run['error']]
    if 0 < len(finished) < len(method['runs']):
        failed.append(
            f'means are of {len(finished)} of {len(method["runs"])} seeds'
        )
    gaps = [run for run in finished if run['figures']['gap'] is not None]
    if 0 < len(gaps) < len(finished):
        failed.append(
            f'gap of {len(gaps)} of {len(finished)} seeds: '
            f'{results["reference"]} lacks the rest'
        )
    return failed


def _failures(results: Mapping) -> list[str]:
    """What is too long for the table."""
    lines = [
        f'* {method["name"]}: {note}'
        for method in results['methods']
        for note in _notes(method, results)
        if len('; '.join(_notes(method, results))) > _MOST_OF_A_NOTE
    ]
    return ['\n'.join(lines)] if lines else []


def _scores(results: Mapping, score: str) -> str:
    columns = [
        (index, step['step'], letter, split)
        for index, step in enumerate(results['pretrained'])
        for letter, split in _SPLITS
        if step[f'{split}_before'] is not None
    ]
    header = ['Method']
    header += [f'{score}_{letter} {step}' for _, step, letter, _ in columns]
    before = [
        _percent(results['pretrained'][index][f'{split}_before'])
        for index, _, _, split in columns
    ]
    rows = [['(pre-trained)', *before]]
    for method in results['methods']:
        if method['summary']:
            steps = method['summary']['steps']
            cells = [
                _cell(steps[index][f'{split}_score'], 100, 2)
                for index, _, _, split in columns
            ]
            rows.append([method['name'], *cells])
    text = (
        f'{score}_f on the classes forgotten at a step, {score}_o on those '
        f'forgotten before, {score}_r on the retained ones.'
    )
    return markdown_table(header, rows) + '\n\n' + text


def _tuning(results: Mapping) -> str:
    budget = results['tuning']['budget']
    rows = []
    for method in results['methods']:
        trials, chosen = method['trials'], method['chosen']
        if len(trials) < 2:
            continue
        rows.append(
            [
                method['name'],
                'all ' * (len(trials) < budget) + str(len(trials)),
                _percent(trials[0]['h_mean']),
                _percent(chosen and chosen['h_mean']),
                _values(chosen) if chosen else 'all trials failed',
            ]
        )
    text = textwrap.fill(
        'H on the images to tune on. A method that is not in the table has '
        'no settings to be searched; "all" says that a space is smaller than '
        'the budget.',
        100,
    )
    header = ['Method', 'Trials', 'H as it is', 'H chosen', 'Chosen']
    return markdown_table(header, rows, left={0, 4}) + '\n\n' + text


def _cell(
    spread: Mapping[str, Any],
    factor: float,
    digits: int,
    is_constant: bool = False,
) -> str:
    """Mean and standard deviation, as text.

    A deviation of zero is left out where it goes without saying.
    """
    mean, std = spread['mean'], spread['std']
    if mean is None:
        return '-'
    text = f'{factor * mean:.{digits}f}'
    if std is None or (is_constant and not round(factor * std, digits)):
        return text
    return f'{text} ± {factor * std:.{digits}f}'


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.2f}'
