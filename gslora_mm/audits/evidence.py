"""What an audit has at hand: models, images, and what is to be gone."""

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from gslora_mm.datasets import (
    ClassSubset,
    LabelTable,
    build_dataset,
    parts_of,
)
from gslora_mm.models import build_stock_model, load_stock_checkpoint
from gslora_mm.registry import METRICS, TASKS, init_scope
from gslora_mm.tasks import ObjectRows
from gslora_mm.utils import ConfigError
from gslora_mm.utils.quiet import no_info, no_prints
from .outcome import Outcome, resampled_counts

#: Images that take no more than this are kept in memory.
KEPT_BYTES = 2**28


@dataclass(frozen=True)
class Suspect:
    """A model under attack.

    Attributes:
        name (str): ``'pretrained'``, ``'after'`` or ``'retrained 1'``, ...
        path (str): Its stock checkpoint, path or url.
        sha256 (str): Of that file.
        allow_pickle (bool): Whether the file may hold pickled code.
    """

    name: str
    path: str
    sha256: str
    allow_pickle: bool = False


class LabelledImages(Dataset):
    """Images through a test pipeline, with labels as in training.

    The ground truth that a detection test pipeline packs is in pixels of
    the original image, or absent; here it is in those of the model's input.

    Args:
        dataset (BaseDataset): Read, with a test pipeline.
        indices (Sequence[int], optional): Its images to use. Defaults to
            all.
    """

    def __init__(self, dataset: BaseDataset, indices: Any = None) -> None:
        self.dataset = dataset
        self.indices = range(len(dataset)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        """Inputs and data sample of an image; no randomness is added."""
        info = self.dataset.get_data_info(int(self.indices[index]))
        instances = copy.deepcopy(info.get('instances'))
        data = self.dataset.pipeline(info)
        if instances is not None:
            sample = data['data_samples']
            sample.gt_instances = _on_input(instances, sample.metainfo)
        return data


def _on_input(instances: list[dict], metainfo: dict) -> InstanceData:
    """Ground truth in pixels of the resized image, without crowds."""
    if 'scale_factor' not in metainfo:
        raise ConfigError(
            'val_dataloader.dataset.pipeline',
            valid='packs no scale_factor, which ground truth needs to be put '
            'on the resized image; add a Resize and meta_keys=(..., '
            "'scale_factor')",
        )
    kept = [each for each in instances if not each.get('ignore_flag')]
    boxes = torch.tensor([each['bbox'] for each in kept], dtype=torch.float)
    labels = [each['bbox_label'] for each in kept]
    scale = torch.tensor(metainfo['scale_factor'], dtype=torch.float)
    return InstanceData(
        bboxes=boxes.reshape(-1, 4) * scale.repeat(2),
        labels=torch.tensor(labels, dtype=torch.long),
    )


@dataclass
class Evidence:
    """What an audit of one step has at hand.

    Args:
        cfg (Config): Config of the step.
        classes (Sequence[str]): All class names, in the order of labels.
        forgotten (Sequence[str]): Those that have to be gone: of this step
            and of all before.
        seeds (Sequence[int]): Of whatever an attack draws.
        max_images (int): Most training images that are read.
            Defaults to 2000.

    Attributes:
        task (BaseTask): The task that reads the models.
        training (LabelledImages): Images of all classes to attack with.
        validation (LabelledImages): Images to score on.
        original (Suspect): The model before any forgetting; set by who
            makes the evidence.
    """

    cfg: Config
    classes: Sequence[str]
    forgotten: Sequence[str]
    seeds: Sequence[int] = (0,)
    max_images: int = 2000
    original: Suspect | None = None
    _rows: dict = field(default_factory=dict, repr=False)
    _scores: dict = field(default_factory=dict, repr=False)
    _batches: dict = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        init_scope(self.cfg)
        self.task = TASKS.build(self.cfg.model.task)
        with no_info():
            self.shell = build_stock_model(
                self.cfg.model.model.to_dict(),
                self.cfg.model.get('data_preprocessor')
                or self.cfg.get('data_preprocessor'),
            )
        self.task.check_model(self.shell)
        self.shell.to(get_device()).eval()
        ids = {name: label for label, name in enumerate(self.classes)}
        self.gone = {name: ids[name] for name in self.forgotten}
        self.kept = {k: v for k, v in ids.items() if k not in self.gone}
        with no_prints():
            self._read_data()

    def _read_data(self) -> None:
        validation = self.cfg.val_dataloader.dataset.to_dict()
        training = self.cfg.train_dataloader.dataset.dataset.to_dict()
        pipeline = parts_of(validation)[0]['pipeline']
        training['pipeline'] = copy.deepcopy(pipeline)
        self._base = build_dataset(training)
        self._table = LabelTable.scan(self._base)
        shown = set(self._table.labels[~self._table.ignored].tolist())
        chosen = ClassSubset(
            self._base,
            [self.classes[label] for label in sorted(shown)],
            share=min(1.0, self.max_images / len(self._base)),
            table=self._table,
        )
        self.training = LabelledImages(self._base, chosen.indices)
        self.validation = LabelledImages(build_dataset(validation))

    def model(self, suspect: Suspect) -> nn.Module:
        """A copy of a model that may be changed, in evaluation mode.

        Raises:
            ConfigError: If its checkpoint cannot be read, or is of another
                architecture.
        """
        model = copy.deepcopy(self.shell)
        load_stock_checkpoint(
            model, suspect.path, suspect.allow_pickle, suspect.name
        )
        return model

    def shots(
        self, number: int, names: Sequence[str], seed: int
    ) -> LabelledImages:
        """Training images of some classes, with all that they show.

        Args:
            number (int): Images of each class.
            names (Sequence[str]): The classes.
            seed (int): Of the draw.

        Raises:
            ConfigError: If a class has fewer images.
        """
        chosen = ClassSubset(
            self._base, names, shots=number, seed=seed, table=self._table
        )
        return LabelledImages(self._base, chosen.indices)

    def retained_images(self, share: float, seed: int) -> LabelledImages:
        """Training images that show nothing of what is forgotten.

        Args:
            share (float): Share of them.
            seed (int): Of the draw.
        """
        chosen = ClassSubset(
            self._base,
            self.kept,
            exclude=self.gone,
            share=share,
            seed=seed,
            table=self._table,
        )
        return LabelledImages(self._base, chosen.indices)

    def rows(self, suspect: Suspect, part: str) -> ObjectRows:
        """What a model makes of all objects of a set of images.

        Args:
            suspect (Suspect): The model.
            part (str): ``'training'`` or ``'validation'``.

        Returns:
            ObjectRows: On the CPU, in the order of the images; kept, so
            that several attacks cost one pass.
        """
        key = suspect.name, part
        if key not in self._rows:
            self._rows[key] = self.read(
                self.model(suspect), getattr(self, part)
            )
        return self._rows[key]

    def forget_rows(self) -> None:
        """Free what :meth:`rows` and :meth:`batches` keep."""
        self._rows.clear()
        self._batches.clear()

    @torch.no_grad()
    def read(self, model: nn.Module, images: Dataset) -> ObjectRows:
        """Rows of any model and images, see :meth:`rows`."""
        return ObjectRows.concatenate(
            self.task.object_rows(model, batch).cpu()
            for batch in self.batches(images)
        )

    def batches(self, images: Dataset) -> Iterable[dict]:
        """Batches of images, as the config's evaluation has them.

        Small ones of whole sets are kept: they are read tens of times.
        """
        if id(images) in self._batches:
            return self._batches[id(images)]
        loading = self.cfg.val_dataloader
        batches = DataLoader(
            images,
            max(loading.get('batch_size', 1), 8),
            num_workers=loading.get('num_workers', 0),
            collate_fn=pseudo_collate,
        )
        if images in (self.training, self.validation):
            size = images[0]['inputs'].nbytes * len(images)
            if size <= KEPT_BYTES:
                batches = self._batches[id(images)] = list(batches)
        return batches

    def score(self, model: nn.Module) -> Outcome:
        """The headline score of the forgotten classes, as in the report.

        Args:
            model (nn.Module): In evaluation mode.
        """
        return Outcome.of_classes(self._resampled(model, self.gone))

    def kept_score(self, suspect: Suspect) -> Outcome:
        """The headline score of the classes that stay, computed once.

        Args:
            suspect (Suspect): The model.
        """
        if suspect.name not in self._scores:
            scores = self._resampled(self.model(suspect), self.kept)
            self._scores[suspect.name] = Outcome.of_classes(scores)
        return self._scores[suspect.name]

    @torch.no_grad()
    def _resampled(
        self, model: nn.Module, names: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """Headline score of some classes, on all bootstrap samples."""
        evaluator = self.cfg.val_evaluator
        with no_info(), no_prints():
            metric = METRICS.build(
                evaluator[0] if isinstance(evaluator, list) else evaluator
            )
            metric.dataset_meta = self.validation.dataset.metainfo
            for batch in self.batches(self.validation):
                found = model.test_step(batch)
                metric.process(batch, [sample.to_dict() for sample in found])
            return metric.resampled_scores(
                resampled_counts(len(metric.results)), names
            )

    def seconds_a_pass(self) -> float:
        """Seconds that this machine takes for one image, measured."""
        few = range(min(8, len(self.validation)))
        batch = next(iter(self.batches(Subset(self.validation, few))))
        self._seconds(batch)  # the first time is longer
        return min(self._seconds(batch) for _ in range(2)) / len(few)

    @torch.no_grad()
    def _seconds(self, batch: dict) -> float:
        start = time.perf_counter()
        self.task.object_rows(self.shell, batch)
        return time.perf_counter() - start
