"""How long the stock model was trained, as its config has it."""

from collections.abc import Mapping
from typing import Any

from gslora_mm.datasets import type_name
from gslora_mm.utils import ConfigError


def own_epochs(cfg: Mapping, num_images: int) -> float:
    """Count the passes over its images that the model was trained for.

    One of a ``RepeatDataset`` around all images counts as often as it
    repeats; repeats of single parts and of a ``ClassBalancedDataset`` are not
    counted. Batches of a training that counts iterations are taken to be
    ``auto_scale_lr.base_batch_size`` images of all processes or, without it,
    those of one process.

    Args:
        cfg (Mapping): Config that says how the model was trained.
        num_images (int): Images that it was trained on.

    Raises:
        ConfigError: If it does not say so; of ``schedule.max_epochs``, which
            asks for it.
    """
    loop = _mapping(cfg.get('train_cfg'))
    loader = _mapping(cfg.get('train_dataloader'))
    epochs, iters = loop.get('max_epochs'), loop.get('max_iters')
    if _is_count(epochs):
        return epochs * _repeats(loader.get('dataset'))
    if not _is_count(iters):
        raise ConfigError(
            'max_epochs',
            'half',
            'train_cfg of the config does not say how long the model was '
            'trained, by max_epochs or max_iters; must be an int, such as '
            'half of its epochs',
        )
    size = _mapping(cfg.get('auto_scale_lr')).get('base_batch_size')
    if not _is_count(size):
        size = loader.get('batch_size')
    if not _is_count(size):
        raise ConfigError(
            'max_epochs',
            'half',
            'the model was trained for so many iterations (train_cfg), but '
            f'train_dataloader.batch_size is {size!r}; must be an int there, '
            'or here',
        )
    return iters * size / num_images


def _repeats(dataset: Any) -> int:
    """How often a pass over a data set shows an image."""
    times = 1
    while isinstance(dataset, Mapping):
        own = dataset.get('times')
        if type_name(dataset) == 'RepeatDataset' and _is_count(own):
            times *= own
        dataset = dataset.get('dataset')
    return times


def _mapping(entry: Any) -> Mapping:
    return entry if isinstance(entry, Mapping) else {}


def _is_count(value: Any) -> bool:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and value > 0
