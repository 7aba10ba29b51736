"""Samples of a data set that have been read before."""

import copy
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gslora_mm.utils.tensor_store import TensorStore
from .forget_retain import ForgetRetainDataset, seeded

#: Index and seed of a sample, as from :class:`ForgetRetainSampler`.
Key = tuple[int, int]
#: Where a data sample has its key.
KEY = 'replay_key'


class RememberedDataset(Dataset):
    """Samples that were read once, with all that is random in them.

    Args:
        dataset (ForgetRetainDataset): The replay images of a step.
        store (TensorStore): Where images are kept.
    """

    def __init__(
        self, dataset: ForgetRetainDataset, store: TensorStore
    ) -> None:
        self.dataset = dataset
        self.metainfo = dataset.metainfo
        self._store = store
        self._samples: dict[Key, dict] = {}

    def __len__(self) -> int:
        """Number of samples that are kept."""
        return len(self._samples)

    def __getitem__(self, key: Key) -> dict:
        """A sample, whose tensors are not to be changed.

        Its data sample is one of its own: that of mmpretrain's preprocessor
        gets scores. What has not been read, or could not be kept, is read
        anew.
        """
        if key not in self._samples:
            return self.dataset[key]
        (inputs,) = self._store.get((KEY, key))
        sample = self._samples[key]
        own = sample['data_samples'].clone()
        return {**sample, 'inputs': inputs, 'data_samples': own}

    def read(self, keys: Iterable[Key], num_workers: int = 0) -> bool:
        """Read samples and keep them.

        Args:
            keys (Iterable[tuple[int, int]]): Indices and seeds.
            num_workers (int): Processes that read. Defaults to 0.

        Returns:
            bool: Whether all could be kept; if not, the rest is not read.
        """
        loader = DataLoader(
            self.dataset,
            batch_size=None,
            sampler=list(keys),
            num_workers=num_workers,
            collate_fn=_as_it_is,
        )
        for key, sample in zip(loader.sampler, loader, strict=True):
            if not self._store.put((KEY, key), [sample['inputs']]):
                return False
            # Copied: each tensor of a worker would hold a file open.
            self._samples[key] = copy.deepcopy({**sample, 'inputs': None})
            self._samples[key]['data_samples'].set_metainfo({KEY: key})
        return True

    def shape(self, key: Key) -> tuple[int, ...]:
        """Shape of the image of a sample that is kept."""
        return tuple(self._store.get((KEY, key))[0].shape)


def _as_it_is(sample: dict) -> dict:
    return sample


def draws_numbers(dataset: ForgetRetainDataset, key: Key) -> bool:
    """Whether reading a sample draws random numbers.

    From the generators that :func:`seeded` seeds, as the transforms of mmcv,
    mmdet and mmpretrain do, or from others, as far as two reads tell.

    Args:
        dataset (ForgetRetainDataset): The replay images of a step.
        key (tuple[int, int]): Index and seed.
    """
    index, seed = key
    with seeded(seed):
        before = _states()
        first, second = (dataset[index]['inputs'] for _ in range(2))
        return before != _states() or not torch.equal(first, second)


def _states() -> tuple[Any, ...]:
    kind, numbers, *rest = np.random.get_state()
    return (
        random.getstate(),
        (kind, numbers.tolist(), *rest),
        torch.get_rng_state().tolist(),
    )
