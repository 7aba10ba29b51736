"""Which run is this? The one answer, for whoever has to compare two."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from gslora_mm.datasets import parts_of
from gslora_mm.entries import SequenceEntries, read_entries
from gslora_mm.entries.cache import CacheEntry
from gslora_mm.utils.checkpoint import sha256_of

LOADERS = ('train_dataloader', 'val_dataloader')
#: What decides the results of a run beside the entries of its sequence.
_STOCK_KEYS = (
    'model',
    'data_preprocessor',
    *LOADERS,
    'val_evaluator',
    'randomness',
)
#: What the scores of the pre-trained model do not depend on.
_NOT_OF_SCORES = (
    'adapter',
    'method',
    'schedule',
    'randomness',
    'train_dataloader',
)
#: Keys of the entry ``forgetting`` that they do not depend on.
_NOT_OF_SCORES_IN_FORGETTING = (
    'forget_share',
    'other_annotations',
    'retain_share',
    'sampling',
    'seed',
    'shots',
)
#: What runs side by side have in common of it.
_OF_THE_SUBJECT = (
    'pretrained',
    'steps',
    'learn',
    'missing',
    'validation_share',
)


def run_identity(
    cfg: Config,
    entries: SequenceEntries | None = None,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """All that decides what comes out of a run.

    Two runs with equal identities have the same report. Work dir and names
    of files are no part of it.

    Args:
        cfg (Config): A sequence config.
        entries (SequenceEntries, optional): What it asks for, if it has been
            read. Defaults to None.
        checkpoint (str, optional): Hash of the pre-trained checkpoint, if it
            is known. Defaults to None: that of a file here.

    Returns:
        dict[str, Any]: Plain data, as JSON gives it back: ``config`` (the
        entries with their defaults, model, data, evaluator, seeds),
        ``checkpoint_sha256`` and ``annotations_sha256`` of the files it
        starts from (None and left out where these are no files here) and
        ``processes``.

    Raises:
        ConfigError: If an entry of the sequence cannot be read.
    """
    content = cfg.to_dict()
    config = {
        **{key: content.get(key) for key in _STOCK_KEYS},
        **(entries or read_entries(cfg)).complete(),
    }
    _leave_out_room(config)
    identity = dict(
        config=config,
        checkpoint_sha256=checkpoint or checkpoint_sha256(content),
        annotations_sha256=annotations_sha256(content),
        processes=get_world_size(),
    )
    return json.loads(
        json.dumps(identity, default=str),
        # As files of this package have NaN and infinity.
        parse_constant=lambda _: None,
    )


def _leave_out_room(config: dict) -> None:
    """Where a cache is, and how large, where that changes no number.

    It does where a pipeline is random: without room for all variants, images
    get other augmentations; and where more than the trunk is frozen, which
    rounds by the number of images. Defaults stand for all values, as in
    earlier runs.
    """
    cache = dict(config['schedule']['cache'])
    config['schedule'] = {**config['schedule'], 'cache': cache}
    cache['store'] = CacheEntry.store
    adapter = config['adapter'] or {}
    if cache['variants'] is None and not (
        adapter.get('within') or adapter.get('exclude')
    ):
        cache['limit_gib'] = CacheEntry.limit_gib


def scores_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The part that the scores of the pre-trained model depend on.

    Args:
        identity (Mapping): Of a run.
    """
    config = {
        key: value
        for key, value in identity['config'].items()
        if key not in _NOT_OF_SCORES
    }
    forgetting = config['forgetting'] = {
        key: value
        for key, value in config['forgetting'].items()
        if key not in _NOT_OF_SCORES_IN_FORGETTING
    }
    # How it is trained is up to the method; so are batches and processes.
    config['task'] = config['task']['type']
    config['val_dataloader'] = dict(
        dataset=config['val_dataloader']['dataset']
    )
    hashes = dict(identity['annotations_sha256'])
    if forgetting['missing'] == 'rest':
        # What is missing then depends on what the method looks at, whether
        # there is anything, and on which classes the images show.
        shares = identity['config']['forgetting']
        forgetting['retain_share'] = shares['retain_share'] == 0
        config['method'] = identity['config']['method'].get('type')
        schedule = identity['config']['schedule']
        config['schedule'] = dict(forget_ratio=schedule['forget_ratio'])
        config['train_dataloader'] = dict(
            dataset=identity['config']['train_dataloader']['dataset']
        )
    else:
        hashes.pop('train_dataloader', None)
    return dict(
        config=config,
        checkpoint_sha256=identity['checkpoint_sha256'],
        annotations_sha256=hashes,
    )


def subject_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The part that runs have to share to be put side by side.

    Args:
        identity (Mapping): Of a run.

    Returns:
        dict[str, Any]: What it starts from, what it forgets and learns, and
        the images that it is scored on; in the form of an identity.
    """
    config, hashes = identity['config'], identity['annotations_sha256']
    return dict(
        config=dict(
            forgetting={
                # An older version may not have known it.
                key: config['forgetting'].get(key)
                for key in _OF_THE_SUBJECT
            },
            val_dataloader=dict(dataset=config['val_dataloader']['dataset']),
        ),
        checkpoint_sha256=identity['checkpoint_sha256'],
        annotations_sha256=dict(val_dataloader=hashes.get('val_dataloader')),
    )


def first_difference(found: Any, wanted: Any, where: str = '') -> str:
    """Where two identities differ first, in words.

    A hash that one of them does not know - of a file that is gone, or on
    another host - is not compared.

    Args:
        found (Any): Of what is there.
        wanted (Any): Of what is asked for.
        where (str): Dotted path of both, for the words.

    Returns:
        str: Such as ``'method.beta is 0.2 there and 0.3 here'``; ``''`` if
        they are equal.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(k for k in found if k not in wanted)]:
            path = f'{where}.{key}'.removeprefix('.').removeprefix('config.')
            difference = first_difference(
                found.get(key), wanted.get(key), path
            )
            if difference:
                return difference
        return ''
    if found == wanted:
        return ''
    kind, _, loader = where.partition('.')
    file = dict(
        checkpoint_sha256='forgetting.pretrained',
        annotations_sha256=f'{loader}.dataset.ann_file',
    ).get(kind)
    if file is None:
        return f'{where} is {found!r} there and {wanted!r} here'
    if found is None or wanted is None:
        return ''
    return (
        f'{file} is another file there (SHA-256 {found[:12]}...) than here '
        f'({wanted[:12]}...)'
    )


def dataset_config(loader: Mapping) -> Mapping:
    """Config of a loader's first data set, whatever is wrapped around it."""
    return parts_of(loader['dataset'])[0]


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
        digests = []
        for data in parts_of(cfg[name]['dataset']) if cfg.get(name) else ():
            file = data.get('ann_file')
            if isinstance(file, str) and file:
                path = Path(data.get('data_root') or '', file)
                digests.append(_sha256_if_file(path))
        digests = [digest for digest in digests if digest is not None]
        if digests:
            found[name] = digests[0]
        if digests[1:]:
            joined = ''.join(digests).encode()
            found[name] = hashlib.sha256(joined).hexdigest()
    return found


def checkpoint_sha256(cfg: Mapping) -> str | None:
    """Hash of the pre-trained checkpoint; None if it is no file here."""
    return _sha256_if_file(Path(cfg['forgetting']['pretrained']).expanduser())


def _sha256_if_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, time: int) -> str:
    """Hash of a file, once as long as it looks the same."""
    return sha256_of(path)
