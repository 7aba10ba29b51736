"""The training data of one step."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import ConcatDataset

from gslora_mm.registry import DATASETS
from gslora_mm.utils.errors import ConfigError, config_path
from .build import build_dataset
from .class_subset import ClassSubset
from .label_table import LabelTable


@DATASETS.register_module()
class ForgetRetainDataset(ConcatDataset):
    """The forget set followed by the retain set, over one data set.

    The data set is built and its annotations are read once for both. An
    image that shows classes of both belongs to both.

    Args:
        dataset (BaseDataset | dict): mmdet or mmpretrain data set, or its
            config.
        forget (dict): Arguments of :class:`ClassSubset`: ``classes``, and
            ``share`` or ``shots`` and so on; ``is_used=False`` for a method
            that looks at no image of it.
        retain (dict): The same for the retain set.
        held_out (float): Share of the images of each half that are set
            aside, to look at and not to train on; none of a half of which
            these would be fewer than eight, or would leave a class fewer
            than six. Defaults to 0.
        table (LabelTable, optional): Labels of ``dataset``, where they have
            been read before.

    Attributes:
        held_out (list[ClassSubset]): What is set aside of each half.
        datasets (list[ClassSubset]): Forget set, retain set.
        cumulative_sizes (list[int]): Where each of them ends.

    Raises:
        ConfigError: See :class:`ClassSubset`; its path begins with
            ``forget`` or ``retain``.
    """

    def __init__(
        self,
        dataset: BaseDataset | dict,
        forget: dict,
        retain: dict,
        held_out: float = 0.0,
        table: LabelTable | None = None,
    ) -> None:
        with config_path('dataset'):
            base = build_dataset(dataset)
            table = table or LabelTable.scan(base)
        subsets = []
        for role, settings in (('forget', forget), ('retain', retain)):
            with config_path(role):
                subsets.append(
                    ClassSubset(base, **settings, role=role, table=table)
                )
        self.held_out = hold_out(subsets, held_out)
        super().__init__(subsets)

    @property
    def metainfo(self) -> dict:
        """Metainfo of the whole data set, all its classes included."""
        return self.datasets[0].metainfo

    def full_init(self) -> None:
        """Does nothing: the data set is read when this is made."""

    def get_data_info(self, index: int) -> dict:
        """Read an annotation, filtered for its half.

        Args:
            index (int): Index in the concatenation.

        Returns:
            dict: See :meth:`ClassSubset.get_data_info`.
        """
        half, index = self._locate(index)
        return self.datasets[half].get_data_info(index)

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        """Read an image and its annotation through the pipeline.

        Args:
            index (int | tuple[int, int]): Index in the concatenation, or
                such an index and a seed. With a seed, all that is random in
                the pipeline is drawn from it, and the sample depends on
                nothing else: not on the worker that makes it, nor on what
                was made before.

        Returns:
            dict: See :meth:`ClassSubset.__getitem__`.
        """
        if isinstance(index, tuple):
            index, seed = index
            with seeded(seed):
                return self[index]
        half, index = self._locate(index)
        return self.datasets[half][index]

    def _locate(self, index: int) -> tuple[int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f'index {index} of {len(self)} images')
        index %= len(self)
        num_forget = self.cumulative_sizes[0]
        half = int(index >= num_forget)
        return half, index - half * num_forget


def hold_out(
    subsets: Sequence[ClassSubset], share: float
) -> list[ClassSubset]:
    """Set a share of the images of each subset aside.

    Args:
        subsets (Sequence[ClassSubset]): Of one data set; what is set aside
            of one of them is left out of all.
        share (float): In [0, 1); see :meth:`ClassSubset.set_aside`.

    Returns:
        list[ClassSubset]: What is set aside, one for each.
    """
    if not 0 <= share < 1:
        raise ConfigError('held_out', share, 'must be in [0, 1)')
    aside: list[ClassSubset] = []
    # Images that are set aside, and those of subsets that spare none.
    taken = kept = np.zeros(0, int)
    for each in subsets:
        own = share if len(each) else 0.0
        aside.append(each.set_aside(own, taken, kept))
        taken = np.union1d(taken, aside[-1].indices)
        if not len(aside[-1]):
            kept = np.union1d(kept, np.setdiff1d(each.indices, taken))
    for each in subsets:
        each.keep_only(np.setdiff1d(each.indices, taken))
    return aside


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global generators, and put them back at the end.

    Those of Python, NumPy and PyTorch, which is what pipelines draw from.

    Args:
        seed (int): In 0 ... 2**32 - 1.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
