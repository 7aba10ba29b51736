"""The images of a data set that show certain classes."""

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import Dataset

from gslora_mm.registry import DATASETS
from gslora_mm.utils.errors import ConfigError, config_path, unknown_name
from gslora_mm.utils.text import shortened
from .build import build_dataset
from .label_table import LabelTable
from .replay import Sampling, select_images, unique_pairs

#: What may happen to objects of other classes.
OTHERS = ('drop', 'keep', 'ignore')
#: Images of a class that are left to train on when some are set aside.
FEWEST_LEFT = 6
#: Fewest images that are set aside: of two, one that is never forgotten is a
#: half of all that is known.
FEWEST_ASIDE = 8


@DATASETS.register_module()
class ClassSubset(Dataset):
    """Images that show at least one object of the given classes.

    Label ids and metainfo stay those of the whole data set: forgetting a
    class never renumbers another. The annotations are not copied, they are
    filtered when an image is read.

    Args:
        dataset (BaseDataset | dict): mmdet or mmpretrain data set, or its
            config.
        classes (Iterable[str]): Names of the classes. Regions to be ignored
            (crowds) do not make an image belong.
        exclude (Iterable[str]): Names of classes of which nothing may be
            seen: images with an object or a region of them are left out.
            Defaults to ().
        other_annotations (str): What happens to objects of other classes in
            these images: ``'drop'`` (the papers' way: they become
            background), ``'keep'``, or ``'ignore'``: they become regions to
            be ignored, of which losses take no notice either, but which
            methods that paint objects over have to know.
            Defaults to ``'drop'``.
        share (float, optional): Share of the images to use, in (0, 1].
        shots (int, optional): Images per class to use. Without ``share``
            and ``shots`` all images are used.
        sampling (str): How images are drawn, ``'balanced'`` or ``'random'``,
            see :func:`~gslora_mm.datasets.select_images`.
            Defaults to ``'balanced'``.
        seed (int): Seed of the draw. Defaults to 0.
        is_used (bool): Whether there are images at all. If not, none has to
            exist, and ``share`` and ``shots`` mean nothing. Defaults to
            True.
        role (str, optional): ``'forget'`` or ``'retain'``, written to the
            metainfo of each data sample as ``role``.
        table (LabelTable, optional): Labels of ``dataset``, where they have
            been read before.

    Attributes:
        dataset (BaseDataset): The whole data set.
        indices (np.ndarray): Indices of the images in it, ascending.
        labels (np.ndarray): Label ids of ``classes``, ascending.
        class_counts (dict[str, int]): Images of this subset per class.

    Raises:
        ConfigError: A class is unknown, has no image or fewer than
            ``shots``, or another argument is out of range. Its path is that
            argument.
    """

    def __init__(
        self,
        dataset: BaseDataset | dict,
        classes: Iterable[str],
        exclude: Iterable[str] = (),
        other_annotations: Literal['drop', 'keep', 'ignore'] = 'drop',
        share: float | None = None,
        shots: int | None = None,
        sampling: Sampling = 'balanced',
        seed: int = 0,
        is_used: bool = True,
        role: str | None = None,
        table: LabelTable | None = None,
    ) -> None:
        with config_path('dataset'):
            self.dataset = build_dataset(dataset)
            table = table or LabelTable.scan(self.dataset)
        self.role, self._classes = role, table.classes
        self.other_annotations = other_annotations
        for name, value, known in (
            ('other_annotations', other_annotations, OTHERS),
            ('sampling', sampling, ('balanced', 'random')),
        ):
            if value not in known:
                raise unknown_name(name, value, known)
        if share is not None and shots is not None:
            raise ConfigError(
                'shots',
                shots,
                f'there is a share of {share}, too; give one of them, the '
                'other must be None',
            )
        if share is not None and not 0 < share <= 1:
            raise ConfigError('share', share, 'must be in (0, 1]')
        if shots is not None and shots < 1:
            raise ConfigError('shots', shots, 'must be at least 1')

        self.labels = _labels_of('classes', classes, table)
        excluded = _labels_of('exclude', exclude, table)
        if not len(self.labels):
            raise ConfigError('classes', valid='names no class')
        both = np.intersect1d(self.labels, excluded)
        if len(both):
            name = table.classes[both[0]]
            raise ConfigError('exclude', valid=f'{name!r} is in classes, too')

        belongs = (
            np.isin(table.labels, self.labels)
            & ~table.ignored
            & ~np.isin(
                table.images, table.images[np.isin(table.labels, excluded)]
            )
        )
        images, labels = unique_pairs(
            table.images[belongs], table.labels[belongs]
        )
        self._kept = frozenset(self.labels.tolist())
        self.indices = np.zeros(0, int)
        if is_used:
            hidden = [table.classes[label] for label in excluded]
            _check_counts(self._count(labels), shots, hidden)
            self.indices = select_images(
                images, labels, share, shots, sampling, seed
            )
        # Image and label, image by image.
        is_drawn = np.isin(images, self.indices)
        self._pairs = images[is_drawn], labels[is_drawn]
        self.class_counts = self._count(self._pairs[1])
        unseen = [name for name, n in self.class_counts.items() if not n]
        if is_used and unseen:
            print_log(
                f'{f"{role}." if role else ""}share = {share} of the images '
                f'leaves none for {unseen}',
                'current',
                logging.WARNING,
            )

    @property
    def metainfo(self) -> dict:
        """Metainfo of the whole data set, all its classes included."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Does nothing: the data set is read when this is made."""

    def __len__(self) -> int:
        return len(self.indices)

    def get_data_info(self, index: int) -> dict:
        """Read an annotation, filtered.

        Args:
            index (int): Index in this subset.

        Returns:
            dict: As the whole data set's, a copy.
        """
        info = self.dataset.get_data_info(int(self.indices[index]))
        if self.other_annotations == 'keep' or 'instances' not in info:
            return info
        # The whole data set's annotations stay as they are.
        info['instances'] = [
            instance
            if instance['bbox_label'] in self._kept
            else instance | dict(ignore_flag=1)
            for instance in info['instances']
            if self.other_annotations == 'ignore'
            or instance['bbox_label'] in self._kept
        ]
        return info

    def __getitem__(self, index: int) -> Any:
        """Read an image and its annotation through the pipeline.

        Where the pipeline gives nothing (mmdet's random crops may), another
        image of this subset is drawn from NumPy's global generator, as
        MMEngine does.

        Args:
            index (int): Index in this subset.

        Returns:
            dict: What the pipeline makes, with ``role`` in the metainfo of
            ``data_samples``.
        """
        for _ in range(self.dataset.max_refetch + 1):
            data = self.dataset.pipeline(self.get_data_info(index))
            if data is not None:
                if self.role is not None and 'data_samples' in data:
                    data['data_samples'].set_metainfo({'role': self.role})
                return data
            index = np.random.randint(len(self))
        raise RuntimeError(
            f'The pipeline gave no image of the {self.role or "class"} subset '
            f'in {self.dataset.max_refetch + 1} attempts; check the image '
            'paths and the random crops'
        )

    def set_aside(
        self, share: float, first: np.ndarray, never: np.ndarray
    ) -> 'ClassSubset':
        """Choose a share of the images, evenly among classes.

        Args:
            share (float): In [0, 1).
            first (np.ndarray): Indices in the whole data set of images that
                are chosen before all others.
            never (np.ndarray): The same of images that are not chosen.

        Returns:
            ClassSubset: These images; none where a class would be left with
            fewer than :data:`FEWEST_LEFT`, or where they are fewer than
            :data:`FEWEST_ASIDE`. This subset is as it was.
        """
        chosen = copy.copy(self)
        images, labels = self._pairs
        part = np.intersect1d(images, first)
        more = round(share * len(self.indices)) - len(part)
        others = ~np.isin(images, np.union1d(part, never))
        if more > 0 and others.any():
            rest = images[others], labels[others]
            among = len(np.unique(rest[0]))
            part = np.union1d(part, select_images(*rest, more / among))
        left = self._count(labels[~np.isin(images, part)])
        is_small = min(left.values(), default=0) < FEWEST_LEFT
        if is_small or len(part) < FEWEST_ASIDE:
            part = part[:0]
        chosen.keep_only(part)
        return chosen

    def keep_only(self, images: np.ndarray) -> None:
        """Leave out all images but some.

        Args:
            images (np.ndarray): Indices in the whole data set.
        """
        self.indices = np.intersect1d(self.indices, images)
        is_kept = np.isin(self._pairs[0], self.indices)
        self._pairs = tuple(each[is_kept] for each in self._pairs)
        self.class_counts = self._count(self._pairs[1])

    def _count(self, labels: np.ndarray) -> dict[str, int]:
        counts = np.bincount(labels, minlength=len(self._classes))
        return {
            self._classes[label]: int(counts[label]) for label in self.labels
        }


def _labels_of(
    argument: str, names: Iterable[str], table: LabelTable
) -> np.ndarray:
    """Labels of named classes, ascending and unique."""
    labels = []
    for name in [names] if isinstance(names, str) else names:
        if name not in table.label_of:
            raise unknown_name(argument, name, table.classes)
        labels.append(table.label_of[name])
    return np.unique(np.array(labels, int))


def _check_counts(
    counts: dict[str, int], shots: int | None, hidden: Sequence[str]
) -> None:
    """Refuse classes without an image, or with fewer than are asked for."""
    for name, count in counts.items():
        if not count:
            found = f'no image shows {name!r}'
            if hidden:
                found += f' and nothing of {shortened(hidden)}'
            raise ConfigError('classes', valid=found)
        if shots is not None and count < shots:
            raise ConfigError(
                'shots',
                shots,
                f'only {count} images show {name!r}; at most '
                f'{min(counts.values())} shots exist for every class',
            )
