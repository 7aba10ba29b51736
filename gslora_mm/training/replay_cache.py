"""Whether and how a step keeps its replay images: ``schedule.cache``."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike

from mmengine.dist import all_gather_object
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.datasets.remembered import Key, RememberedDataset, draws_numbers
from gslora_mm.utils import ConfigError
from gslora_mm.utils.tensor_store import TensorStore
from .forgetting_model import ForgettingModel
from .trunk_cache import TrunkCache

#: Times that an image has to be seen for reading it first to pay.
MIN_USES = 2


class _Refusal(Exception):
    """Why nothing, or less than all, can be kept."""


def cache_replay(
    model: ForgettingModel,
    loader: DataLoader,
    iterations: int,
    folder: PathLike | str,
    use: str = 'auto',
    limit_gib: float = 2.0,
    store: str = 'memory',
    variants: int | None = None,
) -> DataLoader:
    """Let a step read and compute once what is the same every time.

    Images come out of the training pipeline once (with random augmentation
    ``variants`` times), before the first iteration; what the frozen part of
    the model gives for them is kept when they are first trained on. What is
    drawn, and in what order, is what it would be without. All processes call
    this at the same time; each keeps the images that it will see.

    Args:
        model (ForgettingModel): On its device; gets a ``trunk_cache``.
        loader (DataLoader): Of a :class:`ForgetRetainDataset`, in the order
            of a :class:`ForgetRetainSampler`.
        iterations (int): Of the whole step.
        folder (PathLike | str): Where a file may be.
        use (str): See :class:`~gslora_mm.entries.cache.CacheEntry`.
        limit_gib (float): See there.
        store (str): See there.
        variants (int, optional): See there.

    Returns:
        DataLoader: The one to train on; ``loader`` if nothing is kept.

    Raises:
        ConfigError: On all processes, if ``use`` is ``'on'`` and not all
            that is the same can be kept.
    """
    if use == 'off':
        return loader
    start = time.perf_counter()
    sampler, cached, reason = loader.sampler, loader, ''
    kept = TensorStore(
        int(limit_gib * 2**30), folder if store == 'file' else None
    )
    sampler.variants = variants or 1
    try:
        first = next(_batches(loader, 1))
        _check_pipeline(model, loader.dataset, first, variants)
        dataset = _read(loader, iterations, kept, use)
        sizes = f'{len(dataset)} samples, {_mib(kept.size)}'
        cached = _loader_of(dataset, loader)
        model.trunk_cache, size = _trunk_cache(
            model, cached, iterations, kept
        )
        if size:
            sizes += f', and what is frozen for them, {_mib(size)}'
    except _Refusal as refusal:
        reason = str(refusal)
    reasons = all_gather_object(reason)
    if use == 'on' and any(reasons):
        raise _refused(max(reasons))
    if cached is loader:
        sampler.variants = None
        sizes = 'nothing'
    MMLogger.get_current_instance().info(
        f'cache: {sizes} ({time.perf_counter() - start:.1f} s)'
        + f'; {reason}' * bool(reason)
    )
    return cached


def check_replay_cache(
    model: ForgettingModel,
    dataset: ForgetRetainDataset,
    use: str,
    variants: int | None = None,
) -> None:
    """Find out before training what can be known before it.

    Args:
        model (ForgettingModel): Of any step.
        dataset (ForgetRetainDataset): Replay images of any step.
        use (str): See :func:`cache_replay`.
        variants (int, optional): See :func:`cache_replay`.

    Raises:
        ConfigError: If ``use`` is ``'on'`` and something is not the same
            every time.
    """
    if use != 'on':
        return
    try:
        _check_trunk(model)
        _check_pipeline(model, dataset, [(0, 0)], variants)
    except _Refusal as refusal:
        raise _refused(str(refusal)) from None


def _refused(reason: str) -> ConfigError:
    return ConfigError(
        'schedule.cache.use',
        'on',
        f"{reason}; valid are 'auto', to keep what can be kept, and 'off'",
    )


def _check_trunk(model: ForgettingModel) -> None:
    """Refuse a trunk that gives something else after each iteration."""
    if model.task.trunk and not model.trunk_is_frozen:
        raise _Refusal('the trunk is trained, and what it gives changes')


def _check_pipeline(
    model: ForgettingModel,
    dataset: ForgetRetainDataset,
    keys: Iterable[Key],
    variants: int | None,
) -> None:
    """Refuse samples that would not be the same every time."""
    if getattr(model.data_preprocessor, 'batch_augments', None):
        raise _Refusal('data_preprocessor.batch_augments changes batches')
    if variants is None and any(draws_numbers(dataset, key) for key in keys):
        raise _Refusal(
            'the training pipeline is random; schedule.cache.variants keeps '
            'some augmentations of each image'
        )


def _batches(loader: DataLoader, iterations: int) -> Iterator[list[Key]]:
    """Samples of the first iterations, as this process will draw them."""
    keys = iter(loader.sampler)
    for _ in range(iterations):
        yield list(itertools.islice(keys, loader.batch_size))


def _read(
    loader: DataLoader, iterations: int, kept: TensorStore, use: str
) -> RememberedDataset:
    """Read all samples of a step."""
    drawn = itertools.chain.from_iterable(_batches(loader, iterations))
    keys = list(dict.fromkeys(drawn))
    uses = iterations * loader.batch_size / len(keys)
    if use == 'auto' and uses < MIN_USES:
        raise _Refusal(
            f'a sample is used {uses:.1f} times in this step, and it pays '
            f'from {MIN_USES} on'
        )
    dataset = RememberedDataset(loader.dataset, kept)
    if not dataset.read(keys, loader.num_workers):
        raise _Refusal(
            f'the first {len(dataset)} of {len(keys)} samples alone take '
            f'{_mib(kept.size)}, and schedule.cache.limit_gib, or the disk, '
            'has no room for more'
        )
    return dataset


def _loader_of(dataset: RememberedDataset, like: DataLoader) -> DataLoader:
    """Samples that are there already, in the order of another loader."""
    return DataLoader(
        dataset,
        batch_size=like.batch_size,
        sampler=like.sampler,
        collate_fn=like.collate_fn,
        pin_memory=like.pin_memory,
    )


def _trunk_cache(
    model: ForgettingModel,
    loader: DataLoader,
    iterations: int,
    kept: TensorStore,
) -> tuple[TrunkCache | None, int]:
    """A cache for what is frozen, and the bytes it will have.

    Raises:
        _Refusal: If it has no room for all.
    """
    _check_trunk(model)
    if not model.frozen_modules:
        return None, 0
    model.train()  # not all of it: a fresh module is, its norms included
    cache = TrunkCache(model, kept)
    dataset = loader.dataset
    (first, *_), *_ = _batches(loader, 1)
    batch = loader.collate_fn([dataset[first]])
    data = model.data_preprocessor(batch, training=True)
    found = cache.compute(data['inputs'], data['data_samples'])
    of_one = sum(each.numel() * each.element_size() for each in found)
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    placed = {
        (key, shape)
        for keys in _batches(loader, iterations)
        for shape in [_padded([dataset.shape(k) for k in keys], divisor)]
        for key in keys
    }
    pixels = sum(math.prod(shape) for _, shape in placed)
    size = int(of_one * pixels / data['inputs'].numel())
    if kept.size + size > kept.limit:
        raise _Refusal(
            f'what is frozen gives about {_mib(size)} for {len(placed)} '
            f'pairs of a sample and a size that it is padded to, and '
            f'schedule.cache.limit_gib leaves {_mib(kept.limit - kept.size)}'
        )
    return cache, size


def _padded(shapes: Sequence[tuple[int, ...]], divisor: int) -> tuple:
    """Shape that the images of a batch are padded to."""
    return tuple(
        -(-max(sizes) // divisor) * divisor
        for sizes in zip(*shapes, strict=True)
    )


def _mib(size: int) -> str:
    return f'{size / 2**20:.0f} MiB'
