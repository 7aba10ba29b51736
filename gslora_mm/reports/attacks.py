"""What the audits of a sequence found, as tables and in words."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from gslora_mm.utils import ConfigError, load_json
from gslora_mm.utils.text import percent
from .rendering import Table

#: How to read a table of attacks.
NOTE = (
    'Scores in percent, with a 95 % interval where there is one. Resisted: '
    'the attack finds no more in this model than in those that were trained '
    'without the classes (retrained), or than one training more explains '
    '(allowed). Says nothing: it does not tell these from the pre-trained '
    'model. No verdict: it informs only. No control: there is no retrained '
    'model to compare with. Worst class: the one that is most above its score '
    'in the retrained models.'
)
_NEEDED = dict(step=int, classes=list, attacks=list)
_DEFAULTS = dict(checkpoint_sha256=None, retrained_sha256=None, not_run=None)


def read_audits(path: Path) -> list[dict]:
    """Read what an audit wrote down.

    Args:
        path (Path): Its ``audit.json``: the audit of one step, or a list of
            such.

    Returns:
        list[dict]: Audits by step; none if there is no such file.

    Raises:
        ConfigError: If it holds something else.
    """
    if not path.exists():
        return []
    found = load_json(path)
    audits = found if isinstance(found, list) else [found]
    for audit in audits:
        for key, kind in _NEEDED.items():
            value = audit.get(key) if isinstance(audit, dict) else None
            if not isinstance(value, kind):
                raise ConfigError(
                    f'{path.name}: {key}', value, f'valid: {kind.__name__}'
                )
        for attack in [*audit['attacks'], *(audit.get('not_run') or [])]:
            if not isinstance(attack, dict) or 'name' not in attack:
                raise ConfigError(
                    f'{path.name}: attack', attack, 'has no name'
                )
    return sorted(
        [_DEFAULTS | audit for audit in audits],
        key=lambda audit: audit['step'],
    )


def verdict(attack: Mapping) -> str:
    """What a measurement shows, in two words.

    Without retrained models there is nothing to compare with, and what does
    not tell these from the pre-trained model tells nothing of any other.

    Args:
        attack (Mapping): An entry of ``attacks``.
    """
    if not attack.get('retrained'):
        return 'no control'
    if attack.get('separates') is False:
        return 'says nothing'
    words = {True: 'resisted', False: 'not resisted'}
    return words.get(attack.get('resisted'), 'no verdict')


def verdicts(audit: Mapping) -> dict[str, str]:
    """One verdict for each attack, whatever the number of its settings.

    Args:
        audit (Mapping): See :func:`read_audits`.

    Returns:
        dict[str, str]: By name of the attack: resisted if it was in every
        setting with a verdict of either kind.
    """
    found: dict[str, set[str]] = {}
    for attack in audit['attacks']:
        found.setdefault(attack['name'], set()).add(verdict(attack))
    order = ('not resisted', 'resisted', 'no verdict', 'says nothing')
    return {
        name: next((each for each in order if each in words), 'no control')
        for name, words in found.items()
    }


def attack_tables(audit: Mapping) -> list[tuple[str, Table]]:
    """A table for each attack, with a row a setting; scores in percent.

    Args:
        audit (Mapping): See :func:`read_audits`.

    Returns:
        list[tuple[str, Table]]: Of an attack what it is called and what its
        score is, such as ``'linear probe (accuracy)'``, and its table.
    """
    header = [
        'Setting',
        'Verdict',
        'After',
        'Retrained',
        'Allowed',
        'Pre-trained',
        'Worst class',
    ]
    tables = []
    for name, entries in groupby(audit['attacks'], lambda each: each['name']):
        entries = list(entries)
        metric = entries[0].get('metric')
        title = f'{words(name)} ({metric})' if metric else words(name)
        tables.append((title, Table(header, [*map(_row, entries)], 2)))
    return tables


def words(name: str) -> str:
    """A name of the code as a reader would write it."""
    return name.replace('_', ' ')


def _row(attack: Mapping) -> list[str]:
    after = percent(attack.get('after'))
    if interval := attack.get('after_interval'):
        after += f' ({range_text(interval)})'
    return [
        setting_in_words(attack.get('setting') or {}) or '-',
        verdict(attack),
        after,
        range_text(attack.get('retrained') or []),
        percent(attack.get('allowed')),
        percent(attack.get('pretrained')),
        worst_class(attack),
    ]


def setting_in_words(setting: Mapping[str, Any]) -> str:
    """Such as ``decoder.2, 5 shots``."""
    found = []
    for key, value in setting.items():
        if key in ('shots', 'iterations') and not isinstance(value, list):
            what = key.removesuffix('s') if value == 1 else key
            found.append(f'{"all" if value is None else value} {what}')
        elif isinstance(value, str):
            found.append(value)
        else:
            found.append(f'{key} {_plain(value)}')
    return ', '.join(found)


def worst_class(attack: Mapping) -> str:
    """The class most above its reference, with both scores in percent.

    Args:
        attack (Mapping): An entry of ``attacks``.

    Returns:
        str: Such as ``zero 70.0, retrained 65.0``; ``-`` without a retrained
        model, as nothing says then what is much.
    """
    worst = attack.get('worst')
    if not worst:
        return '-'
    own, references = percent(worst['after']), range_text(worst['retrained'])
    return f'{worst["name"]} {own}, retrained {references}'


def range_text(scores: Sequence[float | None]) -> str:
    """Lowest and highest of some scores in percent, ``-`` of none."""
    there = [score for score in scores if score is not None]
    ends = [percent(end) for end in (min(there), max(there))] if there else []
    return ' to '.join(dict.fromkeys(ends)) or '-'


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ' '.join(map(str, value))
    return str(value)
