"""The files that a sequence starts from, and whether they have changed."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.utils.checkpoint import sha256_of

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


def changed_input(cfg: Config, report: Mapping[str, Any]) -> str | None:
    """The first file that is not what a report's run started from.

    Args:
        cfg (Config): The config of the run.
        report (Mapping): Its ``report.json``. What it does not tell, as
            older ones do not, cannot be compared, nor what is no longer
            there or on another host.

    Returns:
        str | None: Key and value of the config; None if none has changed.
    """
    now = checkpoint_sha256(cfg)
    before = report.get('pretrained', {}).get('checkpoint_sha256')
    if None not in (now, before) and now != before:
        return f'forgetting.pretrained = {cfg.forgetting["pretrained"]!r}'
    hashes = report.get('annotations_sha256', {})
    for name, digest in annotations_sha256(cfg).items():
        if hashes.get(name, digest) != digest:
            file = data_of(cfg[name])['ann_file']
            return f'{name}.dataset.ann_file = {file!r}'
    return None


def _sha256_if_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, time: int) -> str:
    """Hash of a file, once as long as it looks the same."""
    return sha256_of(path)
