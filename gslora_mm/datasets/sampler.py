"""Batches of which one half is to be forgotten and the other retained."""

import itertools
from collections.abc import Iterator

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from gslora_mm.registry import DATA_SAMPLERS
from gslora_mm.utils.errors import ConfigError
from .forget_retain import ForgetRetainDataset


@DATA_SAMPLERS.register_module()
class ForgetRetainSampler(Sampler):
    """Endless indices, the forget half of each batch before the retain half.

    Each half walks through its own set in an order that is shuffled anew
    every time around. What stands at a position follows from the seed and
    the position alone: training goes on after a resume as if it had never
    stopped, and the processes of a distributed run together draw what one
    process with the joint batch would (if ``batch_size * forget_ratio`` is
    whole; otherwise the number of images to forget is rounded per process).

    Args:
        dataset (ForgetRetainDataset): The forget and the retain set.
        batch_size (int): Batch size per process, that of the data loader.
        forget_ratio (float): Share of a batch that is to be forgotten; with
            0 or 1 exactly, batches have one half only. Defaults to 0.5.
        shuffle (bool): Whether the sets are shuffled. Defaults to True.
        seed (int, optional): Seed of orders and augmentations; with None one
            is drawn and shared among the processes. Defaults to 0.

    Attributes:
        variants (int | None): Times around after which the seeds of an image
            are repeated, so that a sample with the same index and seed comes
            again; None for new ones every time.

    Raises:
        ConfigError: One half of the batch, or the set that it is drawn from,
            would be empty.
    """

    def __init__(
        self,
        dataset: ForgetRetainDataset,
        batch_size: int,
        forget_ratio: float = 0.5,
        shuffle: bool = True,
        seed: int | None = 0,
    ) -> None:
        num_forget = int(batch_size * forget_ratio + 0.5)
        is_mixed = forget_ratio not in (0, 1)
        if is_mixed and not 0 < num_forget < batch_size:
            raise ConfigError(
                'forget_ratio',
                forget_ratio,
                f'of batch_size = {batch_size} gives {num_forget} images to '
                f'forget and {batch_size - num_forget} to retain; both must '
                'be at least 1, or forget_ratio 0 or 1 exactly',
            )
        half_sizes = (num_forget, batch_size - num_forget)
        for subset, size in zip(dataset.datasets, half_sizes, strict=True):
            if size and not len(subset):
                raise ConfigError(
                    'forget_ratio',
                    forget_ratio,
                    f'needs {subset.role} images, and the dataset has '
                    f'{subset.role}.is_used=False',
                )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.half_sizes = half_sizes
        self.variants: int | None = None
        self._start = 0
        # Order of each set, with the time around that it is for.
        self._orders: list[tuple[int, np.ndarray] | None] = [None, None]
        # Places of the images of a set in it, of the first times around.
        self._places: dict[tuple[int, int], np.ndarray] = {}

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield ``(index, seed)``, for ever.

        The seed is that of the sample's augmentation, see
        :meth:`ForgetRetainDataset.__getitem__`.
        """
        yield from map(self._sample, itertools.count(self._start))

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations of all processes in one pass over the retain images.

        Over the forget images if there are no others in a batch.
        """
        return self.iterations_over(*map(len, self.dataset.datasets))

    def iterations_over(self, forget: int, retain: int) -> int:
        """Count the iterations of all processes in one pass over images.

        Args:
            forget (int): Number of images to forget, passed over where there
                are no others in a batch.
            retain (int): Number of images to retain.
        """
        half = int(self.half_sizes[1] > 0)
        per_iteration = self.half_sizes[half] * self.world_size
        return -(-(forget, retain)[half] // per_iteration)

    def __len__(self) -> int:
        """Number of images of both sets."""
        return len(self.dataset)

    def skip(self, num_samples: int) -> None:
        """Start at another position from now on, to resume a training.

        Takes no time, and no data is loaded.

        Args:
            num_samples (int): Number of samples that this process has used
                since the beginning, as in MMEngine's ``InfiniteSampler``.
        """
        if num_samples < 0:
            raise ValueError(
                f'num_samples={num_samples}: must not be negative'
            )
        self._start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: the indices never end."""

    def _sample(self, position: int) -> tuple[int, int]:
        """Index and seed at a position of this process."""
        iteration, slot = divmod(position, self.batch_size)
        half = int(slot >= self.half_sizes[0])
        slot -= half * self.half_sizes[0]
        # Position in what all processes together draw from this set.
        turn = iteration * self.world_size + self.rank
        joint = turn * self.half_sizes[half] + slot
        size = len(self.dataset.datasets[half])
        round_, place = divmod(joint, size)
        index = int(self._order(half, round_)[place])
        if self.variants and round_ >= self.variants:
            # As it was drawn in one of the first times around.
            round_ %= self.variants
            joint = round_ * size + int(self._places_in(half, round_)[index])
        if half:
            index += self.dataset.cumulative_sizes[0]
        seed = np.random.SeedSequence([self.seed, half, joint])
        return index, int(seed.generate_state(1)[0])

    def _order(self, half: int, round_: int) -> np.ndarray:
        cached = self._orders[half]
        if cached is None or cached[0] != round_:
            order = self._shuffled(half, round_)
            self._orders[half] = cached = (round_, order)
        return cached[1]

    def _places_in(self, half: int, round_: int) -> np.ndarray:
        if (half, round_) not in self._places:
            places = np.argsort(self._shuffled(half, round_))
            self._places[half, round_] = places
        return self._places[half, round_]

    def _shuffled(self, half: int, round_: int) -> np.ndarray:
        order = np.arange(len(self.dataset.datasets[half]))
        if self.shuffle:
            rng = np.random.RandomState([self.seed, half, round_])
            rng.shuffle(order)
        return order
