"""Configs of data sets as people have them, in the form that is read here."""

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.logging import print_log

from gslora_mm.utils.errors import ConfigError, config_path

#: Wrappers that only repeat. Batches never end here, so nothing needs it.
_REPEATING = ('RepeatDataset', 'ClassBalancedDataset')
#: Ends of names of transforms that paste other images of the data set, or of
#: a cache, in: mmdet's and those of projects that build on it.
_MIXING = ('Mosaic', 'Mosaic9', 'MixUp', 'CopyPaste')


def type_name(config: Any) -> str:
    """Type of a config without its scope; '' if it has none."""
    kind = config.get('type', '') if isinstance(config, Mapping) else ''
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def plain_dataset(config: Mapping) -> dict:
    """Read through wrappers of data sets, where it can be done right.

    What repeats a data set is left out, what joins several becomes a
    :class:`~gslora_mm.datasets.joined.JoinedDataset`, and so does a list of
    annotation files. mmdet's ``CocoDataset`` becomes a
    :class:`~gslora_mm.datasets.coco_file.NamedCocoDataset`.

    Args:
        config (Mapping): ``dataset`` of a loader.

    Returns:
        dict: A copy, to be built by :func:`~gslora_mm.datasets.build_dataset`.

    Raises:
        ConfigError: If images are mixed: a half of a batch would show those
            of the other one. Its path is relative to the data set.
    """
    config = dict(copy.deepcopy(config))
    kind = type_name(config)
    inner = config.get('dataset')
    if kind in _REPEATING and inner is not None:
        if kind == 'ClassBalancedDataset':
            print_log(
                'ClassBalancedDataset is read as what it wraps: images are '
                "drawn by forgetting.sampling ('balanced')",
                'current',
                logging.WARNING,
            )
        with config_path('dataset'):
            return plain_dataset(inner)
    if kind == 'MultiImageMixDataset' and inner is not None:
        _refuse_mixing(config)
        with config_path('dataset'):
            out = plain_dataset(inner)
        return _with_more_transforms(out, list(config['pipeline']))
    if kind == 'ConcatDataset':
        parts = []
        for number, part in enumerate(config.get('datasets') or ()):
            with config_path(f'datasets[{number}]'):
                found = plain_dataset(part)
            is_joined = type_name(found) == 'JoinedDataset'
            parts += found['datasets'] if is_joined else [found]
        return _joined(parts)
    if isinstance(config.get('ann_file'), list | tuple):
        return _joined(list(map(plain_dataset, _one_a_file(config))))
    _refuse_mixing(config)
    if kind == 'CocoDataset':
        config['type'] = 'gslora_mm.NamedCocoDataset'
    return config


def drawn_dataset(config: Mapping, share: float) -> dict:
    """Config of a data set that has a share of another one's images.

    Args:
        config (Mapping): What :func:`plain_dataset` gives.
        share (float): The share, in (0, 1].
    """
    if type_name(config) != 'JoinedDataset':
        config = _joined_of([config])
    return {**config, 'share': share}


def parts_of(config: Mapping) -> list[Mapping]:
    """Configs of the data sets that a loader's one is made of.

    Args:
        config (Mapping): ``dataset`` of a loader, plain or not.
    """
    while 'dataset' in config:
        config = config['dataset']
    parts = config.get('datasets')
    if parts:
        return [each for part in parts for each in parts_of(part)]
    if isinstance(config.get('ann_file'), list | tuple):
        return _one_a_file(config)
    return [config]


def _joined(parts: list[dict]) -> dict:
    if not parts:
        raise ConfigError('datasets', [], 'must be a list of data sets')
    if len(parts) == 1:
        return parts[0]
    return _joined_of(parts)


def _joined_of(parts: list[Mapping]) -> dict:
    return dict(type='gslora_mm.JoinedDataset', datasets=parts)


def _one_a_file(config: Mapping) -> list[dict]:
    """A config for each annotation file, with the prefixes that belong."""
    files = list(config['ann_file'])

    def of(value: Any, number: int, key: str) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if len(value) != len(files):
            raise ConfigError(
                key,
                list(value),
                f'must be one folder, or one for each of the {len(files)} '
                'files of ann_file',
            )
        return value[number]

    out = []
    for number, file in enumerate(files):
        each = {**config, 'ann_file': file}
        prefix = each.get('data_prefix')
        if isinstance(prefix, Mapping):
            each['data_prefix'] = {
                key: of(value, number, f'data_prefix.{key}')
                for key, value in prefix.items()
            }
        elif prefix is not None:
            each['data_prefix'] = of(prefix, number, 'data_prefix')
        out.append(each)
    return out


def _with_more_transforms(config: dict, transforms: list) -> dict:
    """Put a wrapper's transforms behind those of what it wraps."""
    if 'datasets' in config:
        config['datasets'] = [
            _with_more_transforms(part, transforms)
            for part in config['datasets']
        ]
        return config
    pipeline = [*config.get('pipeline', ()), *copy.deepcopy(transforms)]
    return {**config, 'pipeline': pipeline}


def _refuse_mixing(config: Mapping) -> None:
    """Refuse transforms that show objects of the other half."""
    found = [
        name
        for name in _type_names(config.get('pipeline') or ())
        if name.endswith(_MIXING)
    ]
    if found:
        raise ConfigError(
            'pipeline',
            found,
            'would paste images that are to be forgotten into those to be '
            'retained, and what a cache holds is not there after a resume; '
            'leave out these, and a RandomAffine that crops what Mosaic has '
            'enlarged',
        )


def _type_names(entry: Any) -> Iterator[str]:
    """Types of a pipeline, and of what its transforms choose from."""
    if isinstance(entry, Mapping):
        yield type_name(entry)
        entry = entry.values()
    if not isinstance(entry, str) and isinstance(entry, Iterable):
        for each in entry:
            yield from _type_names(each)
