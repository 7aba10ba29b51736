"""From one sequence config to the ordinary configs that run."""

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from gslora_mm.datasets import (
    ForgetRetainDataset,
    ForgetRetainSampler,
    LabelTable,
    build_dataset,
    check_class_names,
    drawn_dataset,
    parts_of_dataset,
    type_name,
)
from gslora_mm.entries import (
    NAMES,
    SequenceEntries,
    own_epochs,
    read_entries,
)
from gslora_mm.registry import TASKS, init_scope
from gslora_mm.tasks import BaseTask
from gslora_mm.utils import ConfigError, config_path, usable
from gslora_mm.utils.checkpoint import local_path, sha256_of
from gslora_mm.utils.quiet import no_prints
from gslora_mm.work_dir import WorkDir
from .plan import ForgettingPlan
from .stock_config import check_entries, check_work_dir, stock_config

#: Modules whose log records reach the console during a sequence.
CONSOLE = (
    'progress_hook',
    'early_stop_hook',
    'auto_schedule_hook',
    'replay_cache',
)

#: Entries of a training config that a step does not inherit.
_NOT_INHERITED = (
    'param_scheduler',
    'auto_scale_lr',
    'custom_hooks',
    'load_from',
    'resume',
)

#: What the arguments of the two subsets are called in a sequence config.
_SUBSET_PATHS = {
    'forget.share': 'forgetting.forget_share',
    'retain.share': 'forgetting.retain_share',
    'forget.classes': 'forgetting.steps',
    'retain.classes': 'retained classes',
    'retain.exclude': 'forgetting.missing',
    **{
        f'{role}.{name}': f'forgetting.{name}'
        for role in ('forget', 'retain')
        for name in ('shots', 'sampling', 'other_annotations', 'seed')
    },
}


def plain_config(entries: dict) -> Config:
    """A config of copies, whose text is not formatted with yapf.

    MMEngine makes the text of a config anew for its log, its dump, every
    visualizer backend and every checkpoint. With yapf that took a second each
    time for 100 classes.
    """
    return Config(_plain_values(entries), format_python_code=False)


def _plain_values(value: Any) -> Any:
    """A copy; numbers of NumPy as Python's: their text would be no config."""
    if isinstance(value, str):
        return value  # of thousands of classes
    if isinstance(value, dict):
        return {key: _plain_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        values = map(_plain_values, value)
        return list(values) if isinstance(value, list) else tuple(values)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value


@dataclass(frozen=True)
class ResolvedSequence:
    """A sequence of which all is known: it makes the configs that run.

    Attributes:
        cfg (Config): The sequence config.
        entries (SequenceEntries): What it asks for.
        plan (ForgettingPlan): Which classes go when.
        stock (dict): What its configs take over, see
            :func:`~gslora_mm.sequence.stock_config.stock_config`.
        checkpoint_sha256 (str): Hash of the pre-trained checkpoint.
        max_iters (list[int]): Iterations of every step.
        images (list[dict[str, int]]): Forget and retain images of every step.
        found (list[dict[str, int]]): Images of the training set that show a
            class of these halves.
        replay (list[ForgetRetainDataset]): These images, all over one data
            set that is read once; to be tried out before the first step.
        validation (BaseDataset | None): The validation set, read, as well.
        num_validation (int): Its images that are scored.
        all_validation (int): All of its images.
        image_seconds (float | None): How long an image takes to be scored,
            if that has been measured.
    """

    cfg: Config
    entries: SequenceEntries
    plan: ForgettingPlan
    stock: dict[str, Any] = field(default_factory=dict)
    checkpoint_sha256: str = ''
    max_iters: list[int] = field(default_factory=list)
    images: list[dict[str, int]] = field(default_factory=list)
    found: list[dict[str, int]] = field(default_factory=list)
    replay: list[ForgetRetainDataset] = field(default_factory=list)
    validation: BaseDataset | None = None
    num_validation: int = 0
    all_validation: int = 0
    image_seconds: float | None = None

    @property
    def work_dir(self) -> WorkDir:
        """Where the sequence is written."""
        return WorkDir(self.cfg.work_dir)

    @property
    def task(self) -> BaseTask:
        """The task that reads the model."""
        return TASKS.build(self.entries.task)

    def replay_settings(self, step: int) -> dict[str, dict]:
        """Arguments of the forget and the retain subset of a step.

        What has been learned is replayed with what is retained; nothing is
        seen of classes that are missing or not yet to be learned. A subset
        that no batch draws from has no image.

        Args:
            step (int): Number of the step, from 1.

        Returns:
            dict[str, dict]: ``forget`` and ``retain`` of
            :class:`~gslora_mm.datasets.ForgetRetainDataset`.
        """
        forgetting, ratio = self.entries.forgetting, self.entries.forget_ratio
        splits = self.plan.splits(step)
        hidden = splits['missing'] + self.plan.unknown(step)
        # Of classes whose images are deleted, retained ones show none.
        absent = forgetting.absent
        is_deleted = 'forget' in absent
        unseen = splits['forget'] + splits['old'] if is_deleted else []
        known = splits['retain'] + splits.get('learned', [])
        not_seen = set(hidden)
        own = dict(
            forget=dict(
                is_used=ratio > 0,
                classes=splits['forget'],
                exclude=hidden,
                seed=forgetting.seed + 2 * step,
            ),
            retain=dict(
                is_used=ratio < 1,
                classes=[name for name in known if name not in not_seen],
                exclude=hidden + unseen,
                seed=forgetting.seed + 2 * step + 1,
            ),
        )
        return {
            role: dict(
                settings,
                share=None if role in absent else forgetting.share_of(role),
                other_annotations=self._other_annotations(role),
                sampling=forgetting.sampling,
                shots=forgetting.shots,
            )
            for role, settings in own.items()
        }

    def _other_annotations(self, role: str) -> str:
        """What happens to objects of other classes in a half."""
        wanted = self.entries.forgetting.other_annotations_of(role)
        is_known = self.entries.method.cls.knows_other_objects
        return 'ignore' if is_known and wanted == 'drop' else wanted

    def configs(self) -> tuple[Config, list[Config]]:
        """Every config that runs: that of the evaluation, and one a step."""
        steps = range(1, len(self.plan) + 1)
        return self.pretrained_config(), list(map(self.step_config, steps))

    def pretrained_config(self) -> Config:
        """Config that scores the model as it came, for all steps' splits."""
        folder = self.work_dir.pretrained.path
        out = self._common(str(folder), self.plan.all_splits())
        return plain_config(out)

    def step_config(self, step: int) -> Config:
        """One ordinary MMEngine config that runs one step.

        Args:
            step (int): Number of the step, from 1.

        Returns:
            Config: To be run by :func:`gslora_mm.sequence.run_step`.
        """
        entries, iters = self.entries, self.max_iters[step - 1]
        schedule, stock = entries.schedule, self.stock
        seed = (stock.get('randomness') or {}).get('seed') or 0
        previous = self.work_dir.step(step - 1) if step > 1 else None
        out = self._common(
            str(self.work_dir.step(step).path),
            {k: names for k, names in self.plan.splits(step).items() if names},
        )
        out['model'] = dict(
            type='gslora_mm.ForgettingModel',
            model=out['model'],
            task=dict(entries.task),
            method=entries.method.for_step(step, len(self.plan)),
            adapter=entries.adapter,
            checkpoint=str(previous.merged)
            if previous
            else entries.forgetting.pretrained,
            allow_pickle=entries.forgetting.allow_pickle and step == 1,
        )
        out['randomness'] = {
            **(stock.get('randomness') or {}),
            'seed': seed + step,
        }
        out['train_dataloader'] = {
            **stock['train_dataloader'],
            'batch_size': schedule.batch_size,
            'batch_sampler': None,
            'sampler': dict(
                type='gslora_mm.ForgetRetainSampler',
                batch_size=schedule.batch_size,
                forget_ratio=entries.forget_ratio,
                seed=seed + step,
            ),
            'dataset': dict(
                type='gslora_mm.ForgetRetainDataset',
                dataset=stock['train_dataloader']['dataset'],
                held_out=schedule.held_out,
                **self.replay_settings(step),
            ),
        }
        out['train_cfg'] = dict(
            type='IterBasedTrainLoop',
            max_iters=iters,
            # The one evaluation of a step is that of the merged model.
            val_begin=iters + 1,
        )
        out['optim_wrapper'] = schedule.optim_wrapper
        out['param_scheduler'] = schedule.schedulers(iters)
        out['default_hooks'] |= dict(
            logger=dict(
                type='gslora_mm.StepLoggerHook', interval=schedule.log_interval
            ),
            checkpoint=dict(
                type='gslora_mm.StepCheckpointHook',
                interval=schedule.checkpoint_interval,
            ),
        )
        out['custom_hooks'] = [
            dict(type='gslora_mm.MethodHook'),
            dict(
                type='gslora_mm.GroupNormHook', interval=schedule.log_interval
            ),
            dict(
                type='gslora_mm.ProgressHook',
                step=step,
                num_steps=len(self.plan),
                later_iters=sum(self.max_iters[step:]),
                interval=schedule.log_interval,
            ),
            *schedule.hooks,
        ]
        out['replay_cache'] = asdict(schedule.cache)
        out['forgetting_step'] = dict(
            step=step,
            splits=self.plan.splits(step),
            before=str(self.work_dir.pretrained.metrics),
            pretrained_sha256=self.checkpoint_sha256,
            method_state=str(previous.method_state) if previous else None,
        )
        return plain_config(out)

    def _common(
        self, work_dir: str, splits: dict[str, list[str]]
    ) -> dict[str, Any]:
        """What all configs share: the stock model and its evaluation."""
        stock = self.stock
        out = {
            key: value
            for key, value in stock.items()
            if key not in (*NAMES, *_NOT_INHERITED)
            and key not in ('train_dataloader', 'train_cfg', 'optim_wrapper')
        }
        out['work_dir'] = work_dir
        # MMEngine keeps loggers, visualizers and message hubs by name for as
        # long as the process lives; one name a step keeps them apart.
        name = work_dir.strip('/').replace('/', '_')
        out['experiment_name'] = name
        out['visualizer'] = {
            'type': 'Visualizer',
            'vis_backends': [dict(type='LocalVisBackend')],
            **out['visualizer'],
            'name': name,
        }
        out['log_processor'] = dict(
            type='LogProcessor', window_size=50, by_epoch=False
        )
        out['runner_type'] = 'gslora_mm.Runner'
        out['console'] = CONSOLE
        hooks = dict(out.get('default_hooks') or {})
        hooks.pop('visualization', None)
        out['default_hooks'] = {**hooks, 'checkpoint': None}
        evaluator = self.task.evaluator(
            copy.deepcopy(stock['val_evaluator']),
            splits,
            self.entries.forgetting.only_split_images,
        )
        for stage in ('val', 'test'):
            out[f'{stage}_dataloader'] = stock['val_dataloader']
            out[f'{stage}_evaluator'] = evaluator
        out['val_cfg'] = dict(type='ValLoop')
        out['test_cfg'] = dict(type='TestLoop')
        return out


def resolve(cfg: Config) -> ResolvedSequence:
    """Read entries and data of a sequence, and select its replay images.

    Args:
        cfg (Config): The sequence config.

    Raises:
        ConfigError: Naming the entry of the config, what it is, and what it
            could be.
    """
    check_entries(cfg)
    check_work_dir(cfg)
    init_scope(cfg)
    entries = read_entries(cfg)
    stock = stock_config(cfg)
    # What it refuses, no data set has to be read for.
    TASKS.build(entries.task).prepare_config(copy.deepcopy(stock['model']))
    training = _read_dataset(stock, 'train_dataloader')
    with config_path('train_dataloader.dataset'):
        table = LabelTable.scan(training)
    share = entries.forgetting.validation_share
    if share is not None:
        _draw_validation(stock, share)
    validation = _read_dataset(stock, 'val_dataloader')
    with config_path('val_dataloader.dataset'):
        # Refuses labels in another order.
        scored = LabelTable.scan(validation)
    if tuple(validation.metainfo['classes']) != tuple(table.classes):
        raise ConfigError(
            'val_dataloader.dataset.metainfo.classes and those of '
            'train_dataloader.dataset differ, or their order does; labels '
            'are positions in this list, so it must be the same'
        )
    _check_label_order(training, validation)
    plan = ForgettingPlan.make(
        entries.forgetting,
        table.classes,
        {table.classes[label] for label in set(table.labels.tolist())},
        is_replayed=entries.forget_ratio < 1,
    )
    if share is not None:
        _check_drawn(scored, plan, share)
    pretrained = local_path(entries.forgetting.pretrained)
    sequence = ResolvedSequence(
        cfg,
        entries,
        plan,
        stock,
        sha256_of(pretrained),
        validation=validation,
        num_validation=len(validation),
        all_validation=sum(map(len, parts_of_dataset(validation))),
    )
    # As long with few of the images as with all of them.
    is_half = entries.schedule.max_epochs == 'half'
    own = own_epochs(cfg, len(training)) if is_half else None
    for step in range(1, len(plan) + 1):
        with config_path(renamed=_SUBSET_PATHS, context=f'step {step}'):
            with usable('forgetting'):
                replay = ForgetRetainDataset(
                    training,
                    **sequence.replay_settings(step),
                    held_out=entries.schedule.held_out,
                    table=table,
                )
        with config_path('schedule'):
            sampler = ForgetRetainSampler(
                replay, entries.schedule.batch_size, entries.forget_ratio
            )
        sequence.replay.append(replay)
        sequence.images.append(
            {half.role: len(half) for half in replay.datasets}
        )
        sequence.found.append(
            {
                role: table.num_images(settings['classes'])
                for role, settings in sequence.replay_settings(step).items()
            }
        )
        counted = sequence.found if is_half else sequence.images
        per_epoch = sampler.iterations_over(**counted[-1])
        sequence.max_iters.append(
            entries.schedule.num_iterations(per_epoch, own)
        )
    return sequence


def _read_dataset(stock: dict, loader: str) -> BaseDataset:
    """Build the data set of a loader and read its annotations."""
    with config_path(f'{loader}.dataset'), no_prints():
        dataset = build_dataset(stock[loader]['dataset'])
        check_class_names(dataset)
    return dataset


def _draw_validation(stock: dict, share: float) -> None:
    """Let a share of the validation images be all there are."""
    path = 'forgetting.validation_share'
    metrics = stock['val_evaluator']
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        if type_name(metric) == 'FaceVerification':
            raise ConfigError(
                path,
                share,
                'FaceVerification in val_evaluator compares pairs of images '
                'that all have to be there; leave out one of the two',
            )
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(path, share, 'must be in (0, 1]')
    loader = stock['val_dataloader']
    loader['dataset'] = drawn_dataset(loader['dataset'], share)


def _check_drawn(
    table: LabelTable, plan: ForgettingPlan, share: float
) -> None:
    """Refuse a draw without an image of a class that is to be forgotten."""
    for name in (name for names in plan.steps for name in names):
        if not table.num_images([name]):
            raise ConfigError(
                'forgetting.validation_share',
                share,
                f'none of the validation images that it draws shows {name!r},'
                ' so nobody could tell whether it is forgotten; take more',
            )


def _check_label_order(*datasets: BaseDataset) -> None:
    """Refuse classes of which nothing tells the labels.

    Of a model that mmdet has trained, labels are positions in the annotation
    file. A file with the classes in their order says that these are the
    positions in ``metainfo.classes``, too; then all others are read by name.
    """
    parts = [part for each in datasets for part in parts_of_dataset(each)]
    named = [part for part in parts if hasattr(part, 'file_order')]
    classes = tuple(datasets[0].metainfo['classes'])
    if any(part.file_order == classes for part in named):
        return
    for part in named:
        order, listed = part.file_order, set(part.file_order)
        if order != tuple(name for name in classes if name in listed):
            raise ConfigError(
                'metainfo.classes of train_dataloader.dataset',
                list(classes),
                'mmdet numbers labels in the order of the categories in '
                f'{part.ann_file}, which is another one, and no file has that '
                'of the classes. If the model was trained on that file, write '
                'the classes in its order, for val_dataloader, too: '
                f'{list(order)}. If it was trained with the classes as they '
                "are, sort the 'categories' of a file like them",
            )
