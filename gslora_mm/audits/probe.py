"""Linear probes of the models that a sequence left in its work dir."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gslora_mm.datasets import (
    ClassSubset,
    LabelTable,
    build_dataset,
    parts_of,
)
from gslora_mm.models import build_stock_model, load_stock_checkpoint
from gslora_mm.registry import TASKS, init_scope
from gslora_mm.tasks import BaseTask
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import local_path, sha256_of
from gslora_mm.utils.quiet import no_prints
from gslora_mm.work_dir import WorkDir
from .linear_probe import LinearProbe, split_accuracies

RETRAINED = 'retrained'


@dataclass(frozen=True)
class Features:
    """What one model makes of one set of images.

    Attributes:
        features (Tensor): Embeddings before the class layer, shape (N, C):
            a row an image, or a row an object of a detection data set.
        labels (Tensor): True class ids, shape (N, ).
        predictions (Tensor): Class ids by the model's own class layer,
            shape (N, ).
    """

    features: Tensor
    labels: Tensor
    predictions: Tensor


class Predictions(NamedTuple):
    """Class ids of the validation rows of one model, each of shape (N, ).

    Attributes:
        labels (Tensor): The true ones.
        probe (Tensor): By a probe.
        head (Tensor): By the model's own class layer.
    """

    labels: Tensor
    probe: Tensor
    head: Tensor

    def accuracies(
        self, classes: Sequence[str], splits: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, float | None]]:
        """Accuracy of ``probe`` and ``head`` by split."""
        return {
            kind: split_accuracies(self.labels, found, classes, splits)
            for kind, found in (('probe', self.probe), ('head', self.head))
        }


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


@torch.no_grad()
def extract_features(
    model: nn.Module,
    task: BaseTask,
    images: Dataset,
    batch_size: int = 16,
    num_workers: int = 0,
) -> Features:
    """Run a model as at test time and collect its features.

    Args:
        model (nn.Module): A stock model, on the device to run on.
        task (BaseTask): The task that reads it.
        images (Dataset): Such as :class:`LabelledImages`.
        batch_size (int): Images a batch. Defaults to 16.
        num_workers (int): Processes that load images. Defaults to 0.

    Returns:
        Features: On the CPU, in the order of the images.
    """
    model.eval()
    loader = DataLoader(
        images,
        batch_size,
        num_workers=num_workers,
        collate_fn=pseudo_collate,
    )
    num_classes = task.num_classes(model)  # the background is none
    features, labels, predictions = [], [], []
    for batch in loader:
        half = task.read(model, batch)
        features.append(half.features.float().cpu())
        labels.append(half.labels.cpu())
        predictions.append(half.logits[:, :num_classes].argmax(1).cpu())
    return Features(
        torch.cat(features), torch.cat(labels), torch.cat(predictions)
    )


def probe_work_dir(
    work_dir: str | os.PathLike,
    step: int | None = None,
    retrained: str | None = None,
    share: float | None = None,
    shots: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> dict:
    """Probe the pre-trained model, those after the steps, a retrained one.

    Every probe is trained on the same training images of all classes,
    forgotten ones included, and scored on all validation images. Both go
    through the validation pipeline, so that nothing is drawn at random but
    the choice of images and of held-out rows.

    Args:
        work_dir (str | os.PathLike): Work dir of a sequence.
        step (int, optional): The only step to probe. Defaults to None: all
            finished ones.
        retrained (str, optional): Checkpoint of a model of the same
            architecture and label space that was trained without the
            classes forgotten up to the last step probed.
        share (float, optional): Share of the training images to use.
        shots (int, optional): Training images for each class to use.
            Without ``share`` and ``shots`` all are used.
        seed (int): Seed of these choices. Defaults to 0.
        say (Callable): Is told about each model. Defaults to ``print``.

    Returns:
        dict: ``task``, ``classes``, ``data`` (rows and settings),
        ``models`` (by name: the chosen ``penalty``, ``holdout_accuracy``
        and accuracy ``per_class`` of ``probe`` and ``head``) and ``steps``:
        for each the names of its classes by split and ``rows``, one a
        model with the accuracy of ``probe`` and ``head`` by split. ``head``
        is the model's own class layer on the same rows. Accuracies are
        fractions of 1, None where a split has no rows.

    Raises:
        ConfigError: If the folder is not the work dir of a sequence, a step
            is not finished, or a checkpoint does not fit or is not that of
            the sequence.
    """
    run = WorkDir(work_dir)
    results = _results_to_probe(run, step)
    checkpoints = run.models(result['step'] for result in results)
    _check_pretrained(run)
    if retrained is not None:
        checkpoints[RETRAINED] = (retrained, False)

    cfg = Config.fromfile(run.step(results[0]['step']).config)
    init_scope(cfg)
    task = TASKS.build(cfg.model.task)
    classes = run.read_record()['classes']
    training, validation = _images(cfg, share, shots, seed)
    model = build_stock_model(
        cfg.model.model.to_dict(),
        cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor'),
    )
    task.check_model(model)
    for name, (path, allow_pickle) in checkpoints.items():
        # All of them before the first hour of work on one.
        load_stock_checkpoint(model, path, allow_pickle, name)
    model.to(get_device())
    loading = dict(
        batch_size=cfg.val_dataloader.get('batch_size', 1),
        num_workers=cfg.val_dataloader.get('num_workers', 0),
    )
    models, found = {}, {}
    for name, (path, allow_pickle) in checkpoints.items():
        load_stock_checkpoint(model, path, allow_pickle, name)
        seen = extract_features(model, task, training, **loading)
        unseen = extract_features(model, task, validation, **loading)
        probe = LinearProbe(seed=seed).fit(seen.features, seen.labels)
        found[name] = Predictions(
            unseen.labels, probe.predict(unseen.features), unseen.predictions
        )
        models[name] = dict(
            penalty=probe.penalty,
            holdout_accuracy=probe.holdout_accuracy,
            **found[name].accuracies(classes, {c: [c] for c in classes}),
        )
        say(
            f'{name}: {len(seen.labels)} training and {len(unseen.labels)} '
            f'validation rows of {seen.features.shape[1]} features'
        )
    return dict(
        task=task.name,
        classes=classes,
        data=dict(
            share=share,
            shots=shots,
            seed=seed,
            training_images=len(training),
            validation_images=len(validation),
            training_rows=len(seen.labels),
            validation_rows=len(unseen.labels),
        ),
        models=models,
        steps=_steps(results, classes, found),
    )


def _steps(
    results: Sequence[dict],
    classes: Sequence[str],
    found: Mapping[str, Predictions],
) -> list[dict]:
    """The splits of each step, and the models that are compared on them."""
    pretrained, *others = found
    steps = []
    for result, name in zip(results, others, strict=False):
        splits = {
            split: result[split]
            for split in ('forget', 'old', 'retain', 'missing', 'learned')
            if result.get(split)
        }
        names = [pretrained, name]
        if result is results[-1] and RETRAINED in found:
            names.append(RETRAINED)
        rows = [
            dict(model=name, **found[name].accuracies(classes, splits))
            for name in names
        ]
        steps.append(dict(step=result['step'], splits=splits, rows=rows))
    return steps


def _results_to_probe(run: WorkDir, step: int | None) -> list[dict]:
    """Results of the steps to probe, in order."""
    finished = {
        result['step']: result for result in run.read_results(gaps=True)
    }
    if not finished:
        raise ConfigError('work_dir', str(run.path), 'holds no finished step')
    if step is None:
        return list(finished.values())
    if step not in finished:
        raise ConfigError(
            'step',
            step,
            f'not a finished step of {str(run.path)!r}; finished are '
            f'{", ".join(map(str, finished))}',
        )
    return [finished[step]]


def _check_pretrained(run: WorkDir) -> None:
    """Refuse another file in place of what the sequence began with."""
    record = run.read_record()
    path, expected = record['pretrained_path'], record['checkpoint_sha256']
    digest = sha256_of(local_path(path))
    if digest != expected:
        raise ConfigError(
            'forgetting.pretrained',
            path,
            'is not the file that this sequence started from: its SHA-256 '
            f'is {digest[:12]}..., that of {run.record.name} '
            f'{expected[:12]}...',
        )


def _images(
    cfg: Config, share: float | None, shots: int | None, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Training and validation images, both through the test pipeline."""
    validation_cfg = cfg.val_dataloader.dataset.to_dict()
    training_cfg = cfg.train_dataloader.dataset.dataset.to_dict()
    training_cfg['pipeline'] = copy.deepcopy(
        parts_of(validation_cfg)[0]['pipeline']
    )
    with no_prints():
        base = build_dataset(training_cfg)
        table = LabelTable.scan(base)
        shown = set(table.labels[~table.ignored].tolist())
        chosen = ClassSubset(
            base,
            [table.classes[label] for label in sorted(shown)],
            share=share,
            shots=shots,
            seed=seed,
            table=table,
        )
        validation = build_dataset(validation_cfg)
    return LabelledImages(base, chosen.indices), LabelledImages(validation)
