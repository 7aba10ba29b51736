"""The part of a user's config that the steps of a sequence take over."""

import logging
import os
import os.path as osp
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from gslora_mm.datasets import parts_of, plain_dataset, type_name
from gslora_mm.entries import check_count
from gslora_mm.utils import ConfigError, config_path

#: Loaders of a sequence.
LOADERS = ('train_dataloader', 'val_dataloader')
#: Metrics that read the annotation file of the loader's data set.
COCO_METRICS = ('CocoMetric', 'FasterCocoMetric', 'ForgettingCocoMetric')
#: Hooks that MMEngine gives to every run; others would act on a step as if
#: it were the training of the stock model.
_DEFAULT_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
    'visualization',
)


#: Entries that are dictionaries, where a config has them.
_DICTIONARIES = (
    'model',
    *LOADERS,
    'forgetting',
    'method',
    'task',
    'schedule',
    'default_hooks',
    'visualizer',
    'randomness',
    'env_cfg',
)


def check_entries(cfg: Config) -> None:
    """Refuse entries that are no such thing as MMEngine reads there.

    It would say so only when the entry is used, in words of the code that
    uses it. None stands for no entry.

    Args:
        cfg (Config): A sequence config.

    Raises:
        ConfigError: Naming the first one.
    """
    for name in _DICTIONARIES:
        if not isinstance(cfg.get(name), Mapping | None):
            raise ConfigError(name, cfg[name], 'must be a dictionary')
    metrics = cfg.get('val_evaluator')
    if not _is_made_of_mappings(metrics):
        raise ConfigError(
            'val_evaluator', metrics, 'must be a dictionary, or a list of some'
        )
    backends = (cfg.get('visualizer') or {}).get('vis_backends')
    if not _is_made_of_mappings(backends):
        raise ConfigError(
            'visualizer.vis_backends',
            backends,
            'must be a list of dictionaries',
        )
    scope = cfg.get('default_scope')
    if not isinstance(scope, str | None):
        raise ConfigError(
            'default_scope', scope, "must be a library's name, such as 'mmdet'"
        )
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None:
        check_count('randomness.seed', seed, 0, or_=', or None')
    for name in LOADERS:
        loader = cfg.get(name) or {}
        if loader:
            _check_loader(loader, name)
        workers = loader.get('num_workers', 0)
        check_count(f'{name}.num_workers', workers, 0)
    images = (cfg.get('val_dataloader') or {}).get('batch_size', 1)
    check_count('val_dataloader.batch_size', images, 1)


def check_work_dir(cfg: Config) -> None:
    """Refuse a sequence that has no folder to write to.

    Args:
        cfg (Config): A sequence config.

    Raises:
        ConfigError: If so.
    """
    work_dir = cfg.get('work_dir')
    if not work_dir or not isinstance(work_dir, str | os.PathLike):
        raise ConfigError('work_dir', work_dir, 'must be a folder to write to')


def _is_made_of_mappings(entry: Any) -> bool:
    """Whether it is a dictionary, a list of some, or None."""
    if not isinstance(entry, list | tuple):
        return isinstance(entry, Mapping | None)
    return all(isinstance(each, Mapping) for each in entry)


def stock_config(cfg: Config) -> dict[str, Any]:
    """Read a user's config for what steps take over.

    Data sets are read through their wrappers. Left out, with a word in the
    log, is what cannot be: further ``default_hooks``, ``compile``, folders
    of a visualizer's backends, which all steps would share.

    Args:
        cfg (Config): A sequence config; stays as it is.

    Returns:
        dict[str, Any]: Its content.

    Raises:
        ConfigError: If a data set cannot be read through.
    """
    stock = cfg.to_dict()
    for loader in LOADERS:
        if stock.get(loader):
            with config_path(f'{loader}.dataset'):
                stock[loader]['dataset'] = plain_dataset(
                    stock[loader]['dataset']
                )
    if stock.get('val_dataloader'):
        _name_file(stock)
    hooks = dict(stock.get('default_hooks') or {})
    for name in [name for name in hooks if name not in _DEFAULT_HOOKS]:
        if hooks.pop(name) is not None:
            _say(
                f'default_hooks.{name} is left out of the steps; hooks for '
                'these are listed in schedule.hooks'
            )
    stock['default_hooks'] = hooks
    if stock.pop('compile', None):
        _say(
            'compile is left out: a step is trained in parts that '
            'torch.compile does not follow'
        )
    visualizer = stock['visualizer'] = stock.get('visualizer') or {}
    backends = visualizer.get('vis_backends') or []
    backends = [backends] if isinstance(backends, Mapping) else backends
    if any([place.pop('save_dir', None) for place in (visualizer, *backends)]):
        _say(
            'visualizer: save_dir is left out, as all steps would write '
            'there; each has its own folder'
        )
    return stock


def _name_file(stock: dict[str, Any]) -> None:
    """Let a CocoMetric without a file read that of the loader."""
    metrics = stock.get('val_evaluator') or []
    for metric in [metrics] if isinstance(metrics, Mapping) else metrics:
        if type_name(metric) in COCO_METRICS and not metric.get('ann_file'):
            files = [
                osp.join(part.get('data_root') or '', part['ann_file'])
                for part in parts_of(stock['val_dataloader']['dataset'])
                if part.get('ann_file')
            ]
            if files:
                metric['ann_file'] = files if files[1:] else files[0]


def _check_loader(loader: Mapping, key: str) -> None:
    if not isinstance(loader.get('dataset'), Mapping):
        raise ConfigError(
            f'{key}.dataset',
            loader.get('dataset'),
            'must be the config of a data set',
        )


def _say(line: str) -> None:
    print_log(line, 'current', logging.WARNING)
