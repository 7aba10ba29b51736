"""What a report says beside its scores: files, hashes, versions, commands."""

import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log

from gslora_mm.utils import ConfigError
from gslora_mm.utils.check_env import list_versions
from gslora_mm.utils.checkpoint import sha256_of
from gslora_mm.utils.download import expected_path
from gslora_mm.utils.env_checks import Environment
from gslora_mm.version import __version__
from gslora_mm.work_dir import WorkDir
from .attacks import NOTE, attack_tables, read_audits
from .claim import SCOPE, claim, untested

_ENTRIES = ('forgetting', 'task', 'method', 'adapter', 'schedule')


class Remains(NamedTuple):
    """Files that still know what was forgotten.

    Attributes:
        what (str): Which files.
        why (str): What they give away.
        found (list[str]): Those that lie there, as paths in the work dir or
            as they were named.
    """

    what: str
    why: str
    found: list[str]


def read_evidence(run: WorkDir, report: Mapping, score: str) -> dict[str, Any]:
    """Collect what a report is to be believed by.

    Args:
        run (WorkDir): Work dir of the sequence.
        report (Mapping): See :func:`build_report`.
        score (str): Short name of the score, e.g. 'AP'.

    Returns:
        dict[str, Any]: ``claim`` and ``untested`` (sentences), ``scope``,
        ``audits`` (with ``tables`` and ``file``: whether what was attacked
        is the file that lies there now, ``'same'``, ``'another'`` or
        ``'gone'``), ``audit_problem``, ``audit_note``, ``folder``,
        ``started`` (dates, by step), ``shipped`` (hash of the last model, by
        path), ``remains``, ``versions``, ``settings`` and ``commands``.
    """
    record = run.read_record()
    audits: list[dict] = []
    problem = ''
    try:
        audits = read_audits(run.audit_json)
    except ConfigError as error:
        problem = str(error)
        print_log(
            f'The audit is not in the report: {error}',
            logger='current',
            level=logging.WARNING,
        )
    numbers = [step['step'] for step in report['steps']]
    hashes = {
        number: _hash(run.step(number).merged)
        for number in {*numbers[-1:], *(audit['step'] for audit in audits)}
    }
    for audit in audits:
        now = hashes[audit['step']]
        same = now == audit['checkpoint_sha256']
        audit['file'] = 'gone' if not now else 'same' if same else 'another'
        audit['tables'] = attack_tables(audit)
    return dict(
        claim=list(claim(report, score, audits)),
        scope=SCOPE,
        audits=audits,
        audit_problem=problem,
        audit_note=NOTE,
        untested=list(untested(report, audits)),
        folder=str(run.path),
        started={
            number: f'{started:%Y-%m-%d %H:%M}'
            for number in numbers
            if (started := run.step(number).started)
        },
        shipped={
            _inside(run.step(number).merged, run): hashes[number]
            for number in numbers[-1:]
        },
        remains=list(_remains(run, record, numbers)),
        versions={
            'gslora_mm': __version__,
            **list_versions(Environment()),
        },
        settings=dict(_settings(record)),
        commands=_commands(run, numbers),
    )


def _hash(path: Path) -> str | None:
    """Of a file, None if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def _inside(path: Path, run: WorkDir) -> str:
    """A path as seen from the work dir, if it lies there."""
    try:
        return path.relative_to(run.path).as_posix()
    except ValueError:
        return str(path)


def _remains(
    run: WorkDir, record: Mapping, finished: list[int]
) -> Iterator[Remains]:
    """What has to be deleted, and which of it lies there now."""

    def there(paths: list[Path]) -> list[str]:
        return [_inside(path, run) for path in paths if path.exists()]

    loader = _config(record).get('train_dataloader')
    steps = [run.step(n) for n in range(1, len(record['steps']) + 1)]
    base = expected_path(record['pretrained_path'])
    yield Remains(
        'pre-trained checkpoint, where it was read or downloaded to',
        'knows all classes',
        there([base]),
    )
    if '://' not in str(record['pretrained_path']):
        yield Remains(
            'other checkpoints beside it',
            'most likely of the same training',
            there(sorted({*base.parent.glob('*.pth')} - {base})),
        )
    yield Remains(
        'adapter.safetensors of all steps',
        'merged.pth less the adapter is the model before the step',
        there([step.adapter for step in steps]),
    )
    yield Remains(
        'method.safetensors of all steps',
        'may hold features or weights of before',
        there([step.method_state for step in steps]),
    )
    yield Remains(
        'resume.pth of interrupted steps',
        'adapter and optimizer of the unfinished step',
        there([step.resume for step in steps]),
    )
    yield Remains(
        'merged.pth of all steps but the last',
        'know what was forgotten later',
        there([run.step(number).merged for number in finished[:-1]]),
    )
    yield Remains(
        'pictures of the report, also inside report.html',
        'show images with what was forgotten',
        there([run.figure('pictures')]),
    )
    yield Remains(
        'training and replay images with annotations',
        'the data itself, if the request covers it',
        there(sorted({*map(Path, _data_roots(loader))})),
    )


def _config(record: Mapping) -> Mapping:
    """What was run, entries with defaults; {} if nobody wrote it down."""
    # Older versions kept the identity of the run beside the rest.
    return record.get('identity', record).get('config') or {}


def _data_roots(config: Any) -> Iterator[str]:
    """Folders of a loader's data, whatever is wrapped around it."""
    if isinstance(config, Mapping):
        if config.get('data_root'):
            yield config['data_root']
        config = [*config.values()]
    if isinstance(config, list):
        for value in config:
            yield from _data_roots(value)


def _settings(record: Mapping) -> Iterator[tuple[str, str]]:
    """Entries of the sequence, by dotted path; the steps stand elsewhere."""
    config = _config(record)
    for name in _ENTRIES:
        if name in config:
            yield from _flat(name, config[name])
    if 'randomness' in config:
        yield from _flat('randomness', config['randomness'])


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if f'{path}.{key}' != 'forgetting.steps':
                yield from _flat(f'{path}.{key}', inner)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def _commands(run: WorkDir, finished: list[int]) -> dict[str, str]:
    """By what they do, the commands that repeat a run and its report."""
    folder = shlex.quote(str(run.path))
    commands = {
        'the whole run, elsewhere': f'python tools/train.py '
        f'{shlex.quote(str(run.config))} --work-dir NEW_WORK_DIR',
        'this report': f'python tools/analysis_tools/report.py {folder}',
        'attacks on the last step': f'python tools/audit.py {folder}',
    }
    if finished:
        last = run.step(finished[-1])
        merged = shlex.quote(str(last.merged))
        commands |= {
            'scores of the last model': 'python tools/test.py '
            f'{shlex.quote(str(last.config))} {merged}',
            'its hash': f'sha256sum {merged}',
        }
    return commands
