"""The files that a sequence starts from, and whether they have changed."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gslora_mm.utils.checkpoint import sha256_of

#: Entries of a config that decide what comes out of a run.
IDENTITY = (
    'forgetting',
    'task',
    'method',
    'adapter',
    'schedule',
    'default_scope',
    'model',
    'data_preprocessor',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'randomness',
)
LOADERS = ('train_dataloader', 'val_dataloader')


def data_of(loader: Mapping) -> Mapping:
    """Config of a loader's data set, whatever is wrapped around it."""
    data = loader['dataset']
    while 'dataset' in data:
        data = data['dataset']
    return data


def annotations_sha256(cfg: Mapping) -> dict[str, str]:
    """Hashes of the annotation files, or lists of images.

    Args:
        cfg (Mapping): A sequence config.

    Returns:
        dict[str, str]: SHA-256 by the loader's entry of the config; without
        those that are no file here, such as folders of images.
    """
    found = {}
    for name in LOADERS:
        if name not in cfg:
            continue
        data = data_of(cfg[name])
        file = data.get('ann_file')
        if isinstance(file, str) and file:
            digest = _sha256_if_file(Path(data.get('data_root') or '', file))
            if digest is not None:
                found[name] = digest
    return found


def checkpoint_sha256(cfg: Mapping) -> str | None:
    """Hash of the pre-trained checkpoint; None if it is no file here."""
    return _sha256_if_file(Path(cfg['forgetting']['pretrained']).expanduser())


def run_identity(cfg: Mapping) -> dict[str, Any]:
    """All that decides what comes out of a run, as JSON has it.

    Args:
        cfg (Mapping): A sequence config.

    Returns:
        dict[str, Any]: Entries of the config, and hashes of what files they
        name; None for a checkpoint that is no file here.
    """
    identity = {key: cfg.get(key) for key in IDENTITY}
    identity['checkpoint_sha256'] = checkpoint_sha256(cfg)
    identity['annotations_sha256'] = annotations_sha256(cfg)
    return json.loads(
        json.dumps(identity, default=str),
        # As files of this package have NaN and infinity.
        parse_constant=lambda _: None,
    )


def scores_identity(identity: Mapping) -> dict[str, Any]:
    """The part that the scores of the pre-trained model depend on.

    Args:
        identity (Mapping): Of a run, see :func:`run_identity`.
    """
    forgetting = identity['forgetting']
    names = ('pretrained', 'steps', 'learn', 'missing', 'only_split_images')
    hashes = identity['annotations_sha256']
    scored = dict(
        default_scope=identity['default_scope'],
        model=identity['model'],
        data_preprocessor=identity['data_preprocessor'],
        # Its settings are about training.
        task=(identity['task'] or {}).get('type'),
        forgetting={name: forgetting.get(name) for name in names},
        val_dataloader=dict(dataset=identity['val_dataloader']['dataset']),
        val_evaluator=identity['val_evaluator'],
        checkpoint_sha256=identity['checkpoint_sha256'],
        annotations_sha256=hashes.get('val_dataloader'),
    )
    if forgetting.get('missing') == 'rest':
        # What is missing then depends on what the method looks at, and on
        # which classes the images show.
        scored['method'] = identity['method'].get('type')
        scored['train_dataloader'] = identity['train_dataloader']
    return scored


def first_difference(found: Any, wanted: Any, where: str = '') -> str:
    """Where two identities differ first, in words; '' if nowhere.

    A hash that one of them lacks, of what was or is no file, cannot be
    compared.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(k for k in found if k not in wanted)]:
            difference = first_difference(
                found.get(key), wanted.get(key), f'{where}.{key}'.strip('.')
            )
            if difference:
                return difference
        return ''
    if found == wanted or 'sha256' in where and None in (found, wanted):
        return ''
    return f'{where} is {found!r} there and {wanted!r} here'


def _sha256_if_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, time: int) -> str:
    """Hash of a file, once as long as it looks the same."""
    return sha256_of(path)
