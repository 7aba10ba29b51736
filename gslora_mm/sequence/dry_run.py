"""Everything that can be found wrong before the first iteration."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from torch import Tensor

from gslora_mm.datasets import (
    ForgetRetainDataset,
    ForgetRetainSampler,
    LabelTable,
    build_dataset,
)
from gslora_mm.methods import BaseMethod
from gslora_mm.training import ForgettingModel
from gslora_mm.tasks import BaseTask
from gslora_mm.registry import HOOKS, METHODS, METRICS, TASKS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import local_path, sha256_of
from gslora_mm.utils.quiet import no_prints
from gslora_mm.training.hooks import StepCheckpointHook
from .method_state import load_own_file, state_identity
from .plan import ForgettingPlan
from .resolve import (
    complete_forgetting,
    complete_schedule,
    forget_ratio,
    method_for_step,
    num_iterations,
    replay_for_step,
    schedulers,
)

#: The task that reads the models of a library, by its default scope.
TASK_OF_SCOPE = {
    'mmdet': 'gslora_mm.DetectionTask',
    'mmpretrain': 'gslora_mm.ClassificationTask',
}

#: What the arguments of the two subsets are called in a sequence config.
SUBSET_KEYS = {
    'forget.share': 'forgetting.forget_share',
    'retain.share': 'forgetting.retain_share',
    'forget.shots': 'forgetting.shots',
    'retain.shots': 'forgetting.shots',
    'forget.classes': 'forgetting.steps',
    'retain.classes': 'retained classes',
    'retain.exclude': 'forgetting.missing',
    **{
        f'{role}.{name}': f'forgetting.{name}'
        for role in ('forget', 'retain')
        for name in ('sampling', 'other_annotations', 'seed')
    },
}

CHECKPOINT_KEYS = {
    'model.checkpoint': 'forgetting.pretrained',
    'model.allow_pickle': 'forgetting.allow_pickle',
}


@dataclass
class CheckedSequence:
    """A sequence whose every entry has been tried out.

    Attributes:
        plan (ForgettingPlan): Which classes go when.
        forgetting (dict): ``cfg.forgetting``, completed.
        schedule (dict): ``cfg.schedule``, completed.
        task_cfg (dict): Config of the task.
        task (BaseTask): The task.
        max_iters (list[int]): Iterations of every step.
        images (list[dict[str, int]]): Forget and retain images of every
            step.
        checkpoint_sha256 (str): Hash of the pre-trained checkpoint.
    """

    plan: ForgettingPlan
    forgetting: dict
    schedule: dict
    task_cfg: dict
    task: BaseTask
    max_iters: list[int]
    images: list[dict[str, int]]
    checkpoint_sha256: str


def check_sequence(cfg: Config) -> CheckedSequence:
    """Try out everything that a sequence will need.

    Reads the annotations, selects the replay data of every step, builds
    model, adapter and method, and loads the checkpoint.

    Args:
        cfg (Config): The sequence config.

    Returns:
        CheckedSequence: What was found.

    Raises:
        ConfigError: Naming the entry of the config, what it is, and what it
            could be.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    check_entries(cfg)
    forgetting = complete_forgetting(cfg.forgetting)
    schedule = complete_schedule(cfg.schedule)
    task_cfg = _task_config(cfg)
    task = TASKS.build(task_cfg)

    base = _read_dataset(cfg.train_dataloader.dataset, 'train_dataloader')
    table = LabelTable.scan(base)
    validation = _read_dataset(cfg.val_dataloader.dataset, 'val_dataloader')
    LabelTable.scan(validation)  # refuses labels in another order
    if tuple(validation.metainfo['classes']) != tuple(table.classes):
        raise ConfigError(
            'val_dataloader.dataset.metainfo.classes and those of '
            'train_dataloader.dataset differ, or their order does; labels '
            'are positions in this list, so it must be the same'
        )
    ratio = forget_ratio(schedule, cfg.method)
    plan = ForgettingPlan.from_config(
        forgetting,
        table.classes,
        {table.classes[label] for label in set(table.labels.tolist())},
        is_replayed=ratio < 1,
    )
    steps = range(1, len(plan) + 1)
    metrics = task.evaluator(
        cfg.val_evaluator, plan.all_splits(), forgetting['only_split_images']
    )
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        with no_prints(), _as_config_error('val_evaluator'):
            metric = METRICS.build(metric)
            metric.dataset_meta = validation.metainfo
            if hasattr(metric, 'check_dataset'):
                metric.check_dataset(validation)

    images, max_iters = [], []
    for step in steps:
        METHODS.build(method_for_step(cfg.method, step, len(plan)))
        with (
            _renamed(SUBSET_KEYS, f'step {step}: '),
            _as_config_error('forgetting'),
        ):
            dataset = ForgetRetainDataset(
                base,
                **replay_for_step(forgetting, plan, step, ratio),
                table=table,
            )
        with _as_config_error('train_dataloader.dataset'):
            for half in filter(len, dataset.datasets):
                half[0]
        forget, retain = map(len, dataset.datasets)
        images.append(dict(forget=forget, retain=retain))
        with _renamed({'sampler.': 'schedule.'}):
            sampler = ForgetRetainSampler(
                dataset, schedule['batch_size'], ratio
            )
        max_iters.append(
            num_iterations(schedule, sampler.iterations_per_epoch)
        )

    with _renamed(CHECKPOINT_KEYS):
        model = ForgettingModel(
            cfg.model.to_dict(),
            task_cfg,
            method_for_step(cfg.method, 1, len(plan)),
            cfg.get('adapter'),
            forgetting['pretrained'],
            forgetting['allow_pickle'],
            cfg.get('data_preprocessor'),
        )
    _check_schedule(schedule, model, max_iters)
    if task.num_classes(model.model) != len(plan.classes):
        raise ConfigError(
            f'the model tells {task.num_classes(model.model)} classes apart, '
            f'the dataset has {len(plan.classes)}; set num_classes of the '
            'head, or metainfo.classes of train_dataloader.dataset'
        )
    if plan.learn:
        _check_learner(model.method, plan)
    _check_rows(plan, task.class_weights(model.model) if plan.learn else None)
    sha256 = sha256_of(local_path(forgetting['pretrained']))
    load_own_file(
        model.method,
        cfg.method,
        state_identity(model.method, sha256, plan.classes),
    )
    return CheckedSequence(
        plan, forgetting, schedule, task_cfg, task, max_iters, images, sha256
    )


def check_entries(cfg: Config) -> None:
    """Raise if an entry that every sequence has is not there."""
    needed = dict(
        model='config of the stock model',
        forgetting='what to forget, see configs/_base_/sequences',
        method='how to forget, see configs/_base_/methods',
        schedule='how long and how fast, see configs/_base_/schedules',
        train_dataloader='with the training set of the stock model',
        val_dataloader='with the validation set',
        val_evaluator='the metric of the stock model',
    )
    for name, meaning in needed.items():
        if not cfg.get(name):
            raise ConfigError(f'{name} is missing from the config: {meaning}')


def _task_config(cfg: Config) -> dict:
    """The task of the config, its type told by the library if need be."""
    task = dict(cfg.get('task') or {})
    scope = cfg.get('default_scope')
    if 'type' not in task and scope not in TASK_OF_SCOPE:
        TASKS.import_from_location()
        raise ConfigError(
            f'task.type is missing, and default_scope = {scope!r} does not '
            f'tell it; known tasks: {", ".join(sorted(TASKS.module_dict))}'
        )
    return {'type': TASK_OF_SCOPE.get(scope), **task}


def _read_dataset(config: dict, loader: str) -> BaseDataset:
    """Build the dataset of a loader and read its annotations."""
    with no_prints(), _renamed({'dataset.': f'{loader}.dataset.'}):
        dataset = build_dataset(config)
    if not dataset.metainfo.get('classes'):
        raise ConfigError(
            f'{loader}.dataset has no class names; set '
            'metainfo=dict(classes=[...])'
        )
    _check_names(dataset, loader)
    return dataset


def _check_names(dataset: BaseDataset, loader: str) -> None:
    """Refuse class names that do not tell which label is meant."""
    classes = list(dataset.metainfo['classes'])
    key = f'{loader}.dataset.metainfo.classes'
    twice = [name for name in classes if classes.count(name) > 1]
    if twice:
        labels = [i for i, name in enumerate(classes) if name == twice[0]]
        raise ConfigError(
            f'{key}: {twice[0]!r} is the name of labels {labels}; classes '
            'are told by their names, so each needs one of its own (of '
            "ImageNet's two cranes: gslora_mm.ImageNet100 has such names)"
        )
    # mmpretrain numbers labels by the sorted folders, whatever the names.
    folders = getattr(dataset, 'folder_to_idx', {})
    for label, name in enumerate(classes):
        if folders.get(name, label) != label:
            raise ConfigError(
                f'{key}: {name!r} has label {label} there, but its folder '
                f'has label {folders[name]}: labels follow the sorted names '
                f'of the folders, so write the classes in that order: '
                f'{list(folders)}'
            )


@contextlib.contextmanager
def _renamed(keys: dict[str, str], where: str = '') -> Iterator[None]:
    """Let errors of a part name the entries of the whole config."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for inner, outer in keys.items():
            message = message.replace(inner, outer)
        raise ConfigError(where + message) from error


def _check_learner(method: BaseMethod, plan: ForgettingPlan) -> None:
    """Refuse to learn by a method that does not."""
    if method.can_learn and 'retain' in method.needs:
        return
    METHODS.import_from_location()
    able = sorted(
        name
        for name, cls in METHODS.module_dict.items()
        if cls.can_learn and 'retain' in cls.needs
    )
    raise ConfigError(
        f'forgetting.learn = {[list(names) for names in plan.learn]}: '
        f'method.type = {type(method).__name__!r} learns nothing, as it looks '
        'at no retain image or holds the model to what it was; methods that '
        f'learn: {", ".join(able)}'
    )


def _check_rows(plan: ForgettingPlan, rows: Tensor | None) -> None:
    """Refuse to learn two classes that the class layer cannot tell apart.

    The adapter leaves the class layer as it is. Rows that started equal, at
    zero, and that no image of theirs was ever trained on, are equal still.
    """
    labels = [
        plan.classes.index(name) for names in plan.learn for name in names
    ]
    for i, first in enumerate(labels):
        for second in labels[i + 1 :]:
            if torch.equal(rows[first], rows[second]):
                raise ConfigError(
                    f'forgetting.learn names {plan.classes[first]!r} and '
                    f'{plan.classes[second]!r}, whose rows in the class '
                    'layer of forgetting.pretrained are the same, so that '
                    'nothing could tell them apart: pre-train with a class '
                    'layer that starts at random (init_cfg=dict(type='
                    "'TruncNormal', layer='Linear', std=0.02)), or learn "
                    'one of them'
                )


def _check_schedule(
    schedule: dict, model: ForgettingModel, max_iters: list[int]
) -> None:
    """Build what the Runner would build from the schedule."""
    StepCheckpointHook(schedule['checkpoint_interval'])
    with _as_config_error('schedule.optim_wrapper'):
        optim_wrapper = build_optim_wrapper(model, schedule['optim_wrapper'])
    for config in schedulers(schedule['param_scheduler'], min(max_iters)):
        with _as_config_error('schedule.param_scheduler'):
            PARAM_SCHEDULERS.build(
                config, default_args=dict(optimizer=optim_wrapper)
            )
    counts = getattr(optim_wrapper, '_accumulative_counts', 1)
    if schedule['checkpoint_interval'] % counts:
        raise ConfigError(
            f'schedule.checkpoint_interval = '
            f'{schedule["checkpoint_interval"]} must be a multiple of '
            f'schedule.optim_wrapper.accumulative_counts = {counts}: between '
            'two updates the gathered gradients would be lost'
        )
    for config in schedule['hooks']:
        with _as_config_error('schedule.hooks'):
            hook = HOOKS.build(config)
        if hasattr(hook, 'check_method'):
            hook.check_method(model.method)


@contextlib.contextmanager
def _as_config_error(key: str) -> Iterator[None]:
    """Name the entry of the config that something was built from."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f'{key} cannot be used: {type(error).__name__}: {error}'
        ) from error
