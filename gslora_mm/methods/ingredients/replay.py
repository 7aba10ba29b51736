"""The replay images of a step, for a method that prepares itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from mmengine.dataset import pseudo_collate

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset


def replay_batches(
    dataset: ForgetRetainDataset,
    batch_size: int,
    passes: int = 1,
    roles: Sequence[str] = ('forget', 'retain'),
) -> Iterator[dict]:
    """Collated batches, each of one half, in order.

    Images come through the training pipeline, each from a seed of its own:
    the batches follow from the dataset and the arguments alone.

    Args:
        dataset (ForgetRetainDataset): The replay images.
        batch_size (int): Most images of a batch.
        passes (int): Times that each image is read, with other
            augmentations. Defaults to 1.
        roles (Sequence[str]): The halves wanted. Defaults to both.

    Yields:
        dict: For :meth:`gslora_mm.models.BaseTask.read`.
    """
    for turn in range(passes):
        start = 0
        for subset, end in zip(
            dataset.datasets, dataset.cumulative_sizes, strict=True
        ):
            for first in range(start, end, batch_size):
                if subset.role not in roles:
                    break
                indices = range(first, min(first + batch_size, end))
                samples = [dataset[i, _seed(turn, i)] for i in indices]
                yield pseudo_collate(samples)
            start = end


def _seed(turn: int, index: int) -> int:
    return int(np.random.SeedSequence([turn, index]).generate_state(1)[0])
