"""report.md: tables that read well as Markdown and as plain text."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

from .tables import markdown_table

TIMING_HEADING = '## Time and memory'
_FIGURES = {
    'scores': (
        'Scores over the steps',
        'Hollow: the pre-trained model on the same classes, and the upper '
        'bound of the H-Mean. Filled: after the step.',
    ),
    'groups': (
        'Groups of the adapter',
        'Norm of each group of the adapter, and of the update it adds to the '
        'weights. Hatched: exactly zero, that block was left as it was.',
    ),
    'pictures': (
        'Before and after',
        'The same validation images before any forgetting and after each '
        'step.',
    ),
}
#: How to read the pictures, by task.
_PICTURES = {
    'detection': ' A dashed box should be gone.',
    'classification': ' The three likeliest classes, the true one in colour; '
    'a hatched bar should be gone.',
}
_VERIFICATION = {
    'verification_accuracy': 'Accuracy',
    'verification_auc': 'AUC',
}
#: With more classes, the table shows only those that are forgotten.
_MOST_CLASSES = 200


def render_markdown(
    report: Mapping, score_name: str, figures: Mapping[str, str]
) -> str:
    """Write a report as Markdown.

    Scores are percents with one decimal. Times and memory, which no two runs
    share, stand in the last section, under ``TIMING_HEADING``; everything
    above it is the same for the same run.

    Args:
        report (Mapping): See :func:`build_report`.
        score_name (str): Short name of the score, e.g. 'AP'.
        figures (Mapping[str, str]): Path of each figure, relative to the
            report: ``scores``, ``groups``, ``pictures``; any may be missing.

    Returns:
        str: The text.
    """
    steps = report['steps']
    parts = [_header(report, score_name)]
    if steps:
        parts.append('## Result\n\n' + _summary(steps, score_name))
        parts += _figure('scores', figures)
        parts += _figure('pictures', figures, _PICTURES.get(report['task']))
        if any(step.get('verification') for step in steps):
            parts.append('## Face verification\n\n' + _verification(steps))
        parts.append('## Adapter\n\n' + _adapter(steps))
        parts += _figure('groups', figures)
    parts.append(_per_class(report, score_name))
    parts.append(_timing(report))
    return '\n\n'.join(parts) + '\n'


def _header(report: Mapping, score_name: str) -> str:
    pretrained = report['pretrained']
    model = report.get('model')
    title = f'# Forgetting with {report["method"]}'
    scores = [s for s in pretrained['per_class'].values() if s is not None]
    mean = sum(scores) / len(scores) if scores else None
    lines = [
        title + (f' on {model}' if model else ''),
        '',
        f'- Task: {report["task"]}, {len(report["classes"])} classes, '
        f'score {score_name} ({pretrained["metric"]}) in percent',
        f'- Pre-trained model: {pretrained["checkpoint"]}, {score_name} '
        f'{_percent(mean)} (mean over the classes)',
        f'- SHA-256 of its file: {pretrained["checkpoint_sha256"]}',
        f'- Steps finished: {len(report["steps"])} of '
        f'{len(report["requests"])}',
        '',
        'Requests:',
        '',
    ]
    lines += [
        textwrap.fill(
            f'{number}. {", ".join(request)}',
            79,
            subsequent_indent=' ' * len(f'{number}. '),
            break_on_hyphens=False,
        )
        for number, request in enumerate(report['requests'], start=1)
    ]
    return '\n'.join(lines)


def _summary(steps: Sequence[Mapping], score_name: str) -> str:
    splits = {'f': 'forget', 'r': 'retain', 'o': 'old'}
    if any(step.get('missing_score') is not None for step in steps):
        splits['m'] = 'missing'
    if any(step.get('learned') for step in steps):
        splits['l'] = 'learned'
    columns: dict[str, Callable[[Mapping], str]] = {
        'Step': lambda step: str(step['step']),
        'Forget': lambda step: _brief(step['forget']),
    }
    for letter, split in splits.items():
        columns[f'{score_name}_{letter}'] = lambda step, split=split: _change(
            step.get(f'{split}_before'), step.get(f'{split}_score')
        )
    columns |= {
        'H-Mean': lambda step: _percent(step['h_mean']),
        'Bound': lambda step: _percent(step['h_mean_upper_bound']),
        'H / bound': lambda step: _ratio(
            step['h_mean'], step['h_mean_upper_bound']
        ),
    }
    text = (
        'Score of the pre-trained model -> score after the step: '
        f'{score_name}_f on the classes forgotten at this step (lower is '
        f'better), {score_name}_r on the retained ones, {score_name}_o on '
        'those forgotten at earlier steps (lower is better)'
    )
    if 'm' in splits:
        text += (
            f', {score_name}_m on the retained ones without any replay data'
        )
    if 'l' in splits:
        text += f', {score_name}_l on those learned so far'
    text += (
        f'. H-Mean: harmonic mean of {score_name}_r and the drop of '
        f'{score_name}_f. Bound: the H-Mean of forgetting completely and '
        'losing nothing else.'
    )
    return _table(columns, steps) + '\n\n' + textwrap.fill(text, 79)


def _verification(steps: Sequence[Mapping]) -> str:
    """A row for each step and split."""
    rows = [
        (step['step'], split, scores)
        for step in steps
        for split, scores in step['verification'].items()
    ]
    columns: dict[str, Callable[[tuple], str]] = {
        'Step': lambda row: str(row[0]),
        'Split': lambda row: row[1],
    }
    for name in rows[0][2]:
        title = name.replace('tar@far=', 'TAR at FAR ')
        columns[_VERIFICATION.get(name, title)] = lambda row, name=name: (
            _change(row[2][name]['before'], row[2][name]['now'])
        )
    text = (
        'Do two images show the same person? Pre-trained model -> after the '
        'step, in percent, over pairs of which both people are in the split: '
        'accuracy, area under the ROC curve, and the share of true pairs '
        'accepted (TAR) at a rate of false ones (FAR). It compares '
        'embeddings, not classes. For the AUC, 50 is chance.'
    )
    return _table(columns, rows) + '\n\n' + textwrap.fill(text, 79)


def _adapter(steps: Sequence[Mapping]) -> str:
    columns: dict[str, Callable[[Mapping], str]] = {
        'Step': lambda step: str(step['step']),
        'Iterations': lambda step: (
            f'{step["iterations"]:,}'
            + (' (early stop)' if step.get('stopped_early') else '')
        ),
        'Active groups': lambda step: (
            f'{sum(g["active"] for g in step["groups"].values())} of '
            f'{len(step["groups"])}'
        ),
        'Trainable parameters': lambda step: (
            f'{step["trainable_parameters"]:,}'
        ),
        'Share of the model': lambda step: f'{step["trainable_share"]:.2%}',
    }
    return _table(columns, steps)


def _per_class(report: Mapping, score_name: str) -> str:
    """One row per class, in the order of the labels."""
    before = report['pretrained']['per_class']

    def cell(step: Mapping, name: str) -> str:
        score = _percent(step['per_class'].get(name))
        if name in step['forget']:
            return f'[{score}]'
        return f'({score})' if name in step['old'] else score

    columns: dict[str, Callable[[str], str]] = {
        'Class': lambda name: name,
        'Before': lambda name: _percent(before.get(name)),
    }
    for step in report['steps']:
        columns[f'Step {step["step"]}'] = lambda name, step=step: cell(
            step, name
        )
    names, note = report['classes'], ''
    if len(names) > _MOST_CLASSES:
        asked = {name for request in report['requests'] for name in request}
        names = [name for name in names if name in asked]
        note = (
            f' Only the classes that are to be forgotten, {len(names)} of '
            f'{len(report["classes"])}; `report.json` has all.'
        )
    return (
        f'## {score_name} of each class\n\n'
        + _table(columns, names)
        + '\n\n[ ] forgotten at this step, ( ) at an earlier one.'
        + note
    )


def _timing(report: Mapping) -> str:
    columns: dict[str, Callable[[Mapping], str]] = {
        'Step': lambda step: str(step['step']),
        'Training (s)': lambda step: _number(step.get('train_seconds')),
        'Evaluation (s)': lambda step: _number(step.get('eval_seconds')),
        'Peak memory (MiB)': lambda step: _number(
            step.get('peak_memory_mb'), 0
        ),
    }
    pretrained = report['pretrained'] | dict(step='pre-trained')
    return (
        f'{TIMING_HEADING}\n\n'
        'These differ from run to run; everything above does not.\n\n'
        + _table(columns, [pretrained, *report['steps']])
    )


def _figure(
    name: str, figures: Mapping[str, str], more: str | None = None
) -> list[str]:
    if name not in figures:
        return []
    title, text = _FIGURES[name]
    text += more or ''
    return [f'![{title}]({figures[name]})', textwrap.fill(text, 79)]


def _table(
    columns: Mapping[str, Callable[[object], str]], rows: Sequence
) -> str:
    """A Markdown table of what each column shows of each row."""
    cells = [[render(row) for render in columns.values()] for row in rows]
    # Names come first, and go to the left.
    names = ('Step', 'Class', 'Forget', 'Split')
    left = sum(title in names for title in columns)
    return markdown_table(list(columns), cells, left)


def _percent(score: float | None) -> str:
    return '-' if score is None else f'{100 * score:.1f}'


def _change(before: float | None, now: float | None) -> str:
    if now is None:
        return '-'
    return f'{_percent(before)} -> {_percent(now)}'


def _ratio(value: float | None, bound: float | None) -> str:
    return '-' if value is None or not bound else f'{value / bound:.1%}'


def _number(value: float | None, digits: int = 1) -> str:
    return '-' if value is None else f'{value:,.{digits}f}'


def _brief(names: Sequence[str], limit: int = 30) -> str:
    text = ', '.join(names)
    return text if len(text) <= limit else f'{len(names)} classes'
