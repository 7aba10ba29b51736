"""The files of a run beside its work dir: its config, and how it was run."""

from pathlib import Path

from mmengine.config import Config

from gslora_mm.sequence.identity import first_difference, run_identity
from gslora_mm.utils import ConfigError, load_json
from gslora_mm.work_dir import WorkDir


def conditions(work_dir: Path) -> dict | None:
    """How a run was run, which its times depend on.

    Args:
        work_dir (Path): Its work dir.

    Returns:
        dict | None: ``day``, ``jobs``, how many ran at a time, ``threads``
        of each, and of the machine ``cores``, ``device`` and version of
        ``torch``; None if it was not run by :func:`run_all`.
    """
    record = read_record(work_dir)
    return {k: v for k, v in record.items() if k != 'identity'} or None


def check_same(identity: dict, folder: Path) -> None:
    """Raise if there is a run of other settings, or of other files."""
    path = file_beside(folder, 'py')
    if not folder.exists() or not path.exists():
        return
    found = read_record(folder).get('identity') or _identity_of_old_run(folder)
    difference = first_difference(found, identity)
    if difference:
        raise ConfigError(
            'work_dir',
            str(folder),
            f'holds another run: {difference}; choose another, or delete it '
            f'and {path.name!r} beside it to run it anew',
        )


def _identity_of_old_run(folder: Path) -> dict:
    """Identity of a run of an older version, which has written no record.

    Its config was there; hashes of its files are in its report, if at all.
    """
    identity = run_identity(Config.fromfile(file_beside(folder, 'py')))
    try:
        report = WorkDir(folder).read_report()
    except ConfigError:
        report = {}
    return dict(
        identity,
        checkpoint_sha256=report.get('pretrained', {}).get(
            'checkpoint_sha256'
        ),
        annotations_sha256=report.get('annotations_sha256', {}),
    )


def file_beside(folder: Path, suffix: str) -> Path:
    """A file of a run, beside its work dir."""
    return folder.parent / f'{folder.name}.{suffix}'


def read_record(folder: Path) -> dict:
    """How a run was started, and its identity; empty if that is not known."""
    try:
        return load_json(file_beside(folder, 'json'))
    except (FileNotFoundError, ConfigError):
        return {}
