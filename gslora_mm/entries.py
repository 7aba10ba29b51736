"""The five entries of a sequence config, read and checked once.

``forgetting`` says what, ``method`` and ``adapter`` how, ``schedule`` how
long and how fast, ``task`` on what kind of model. None of them is a key of
mmdet or mmpretrain, so that they can stand beside any of their configs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar

from mmengine.config import Config

from gslora_mm.lora import inject_lora
from gslora_mm.methods import BaseMethod
from gslora_mm.registry import HOOKS, METHODS, TASKS, class_of
from gslora_mm.tasks import complete_task_config
from gslora_mm.utils import ConfigError, config_path, unknown_name, usable

#: Entries that a sequence needs beside those of its stock model.
NAMES = ('forgetting', 'task', 'method', 'adapter', 'schedule')

#: Entries that have to be there, and what they are.
_NEEDED = dict(
    model='config of the stock model',
    forgetting='what to forget, see configs/_base_/sequences',
    method='how to forget, see configs/_base_/methods',
    schedule='how long and how fast, see configs/_base_/schedules',
    train_dataloader='with the training set of the stock model',
    val_dataloader='with the validation set',
    val_evaluator='the metric of the stock model',
)


class _Entry:
    """An entry whose keys are the fields of a dataclass."""

    #: What a key means that has to be there.
    meanings: ClassVar[dict[str, str]]

    @classmethod
    def read(cls, entry: Mapping) -> Any:
        """Make it of a config's entry, which is copied.

        Raises:
            ConfigError: If a key is unknown or missing, or has a value that
                it cannot have. Paths are those of the entry.
        """
        known = [each.name for each in fields(cls)]
        for each in fields(cls):
            has_default = (each.default, each.default_factory) != (
                MISSING,
                MISSING,
            )
            if not has_default and each.name not in entry:
                raise ConfigError(
                    each.name, valid=f'missing; {cls.meanings[each.name]}'
                )
        for name in entry:
            if name not in known:
                raise ConfigError(
                    name, valid='no such entry; known are ' + ', '.join(known)
                )
        return cls(**copy.deepcopy(dict(entry)))


@dataclass(frozen=True, kw_only=True)
class ForgettingEntry(_Entry):
    """``forgetting``: which classes go when, and with what data.

    Attributes:
        pretrained (str): Path or URL of the stock checkpoint.
        steps (list | dict): Class names of each step, or the arguments of a
            :class:`~gslora_mm.datasets.ClassOrder`.
        retain_share (float | None): Share of the retained images to use.
        forget_share (float | None): Share of the images to forget to use.
        shots (int | None): Images per class to use, in place of shares.
        missing (list | str): Retained classes without replay data, or
            ``'rest'``: all that the training set does not show.
        learn (list): Class names to be learned at each step.
        sampling (str): How images are drawn, see
            :func:`~gslora_mm.datasets.select_images`.
        other_annotations (str | dict): ``'drop'`` or ``'keep'`` objects of
            other classes, or one of these for each half.
        only_split_images (bool): Whether a split is scored on the images
            that show one of its classes alone.
        allow_pickle (bool): Whether the checkpoint may hold pickled code.
        seed (int): Seed of the draw of images.
    """

    pretrained: str
    steps: Any
    retain_share: float | None = None
    forget_share: float | None = None
    shots: int | None = None
    missing: Any = field(default_factory=list)
    learn: Any = field(default_factory=list)
    sampling: str = 'balanced'
    other_annotations: Any = 'drop'
    only_split_images: bool = False
    allow_pickle: bool = False
    seed: int = 0

    meanings: ClassVar = dict(
        pretrained='path or url of the stock checkpoint that is to forget',
        steps='a list with the class names of each step',
    )

    def other_annotations_of(self, role: str) -> str:
        """``'drop'`` or ``'keep'`` for the forget or the retain half."""
        if isinstance(self.other_annotations, Mapping):
            return self.other_annotations.get(role, 'drop')
        return self.other_annotations


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry(_Entry):
    """``schedule``: how long a step is trained, how fast, in what batches.

    Attributes:
        batch_size (int): Images of a batch, both halves together.
        optim_wrapper (dict): As in any config of MMEngine.
        max_iters (int | None): Iterations of a step.
        max_epochs (int | None): The same in passes over the retain images.
        forget_ratio (float | None): Share of a batch that is to be
            forgotten; None is half of what the method needs.
        param_scheduler (dict | list | None): As in any config, counting
            iterations.
        checkpoint_interval (int): Iterations between two saves.
        log_interval (int): Iterations between two lines of progress.
        hooks (list): More hooks.
    """

    batch_size: int
    optim_wrapper: dict
    max_iters: int | None = None
    max_epochs: int | None = None
    forget_ratio: float | None = None
    param_scheduler: Any = None
    checkpoint_interval: int = 100
    log_interval: int = 50
    hooks: list = field(default_factory=list)

    meanings: ClassVar = dict(
        batch_size='images of a batch, both halves together',
        optim_wrapper="for example dict(type='OptimWrapper', "
        "optimizer=dict(type='AdamW', lr=1e-3))",
    )

    def __post_init__(self) -> None:
        if (self.max_iters is None) == (self.max_epochs is None):
            raise ConfigError(
                'max_iters',
                self.max_iters,
                f'with max_epochs = {self.max_epochs!r}: set exactly one of '
                'them, the other one to None (an epoch is one pass over the '
                'retain images)',
            )
        key = 'max_epochs' if self.max_iters is None else 'max_iters'
        length = getattr(self, key)
        if not isinstance(length, int) or length < 1:
            raise ConfigError(key, length, 'must be an int >= 1')
        self._check_annealing()
        self.schedulers(1)

    def _check_annealing(self) -> None:
        """Refuse a learning rate that would end above where it began."""
        lr = self.optim_wrapper
        for key in ('optimizer', 'lr'):
            lr = lr.get(key) if isinstance(lr, Mapping) else None
        # A momentum's least value has the same name. One that is not the
        # last may well rise, as in cycles.
        last = [
            scheduler
            for scheduler in self._listed_schedulers()
            if str(scheduler.get('type')).endswith('LR')
        ][-1:]
        for scheduler in last:
            eta_min = scheduler.get('eta_min')
            if eta_min is not None and lr is not None and eta_min > lr:
                raise ConfigError(
                    'param_scheduler.eta_min',
                    eta_min,
                    'it is above the learning rate, '
                    f'schedule.optim_wrapper.optimizer.lr = {lr}, which would '
                    'rise to it; set eta_min=0, or eta_min_ratio instead',
                )

    def _listed_schedulers(self) -> list[Mapping]:
        """Configs of the schedulers: none, one or some."""
        found = self.param_scheduler or []
        return [found] if isinstance(found, Mapping) else list(found)

    def schedulers(self, max_iters: int) -> list[dict]:
        """Parameter schedulers that count iterations and end with a step.

        Args:
            max_iters (int): Iterations of the step: where ``end`` (and
                ``T_max`` of cosine annealing) is, if a config does not say.

        Raises:
            ConfigError: If one counts epochs.
        """
        out = []
        for config in self._listed_schedulers():
            if config.get('by_epoch', False):
                raise ConfigError(
                    'param_scheduler.by_epoch',
                    True,
                    'the steps of a sequence count iterations: set '
                    'by_epoch=False',
                )
            config = {**config, 'by_epoch': False}
            config.setdefault('end', max_iters)
            name = str(config.get('type')).split('.')[-1]
            if name.startswith('CosineAnnealing'):
                span = config['end'] - config.get('begin', 0)
                config.setdefault('T_max', span)
            out.append(config)
        return out

    def num_iterations(self, per_epoch: int) -> int:
        """How long a step is trained.

        Args:
            per_epoch (int): Iterations of one pass over the retain images,
                or the forget images where a batch has no others.
        """
        if self.max_iters is not None:
            return self.max_iters
        return self.max_epochs * per_epoch

    def ratio_for(self, method: type[BaseMethod]) -> float:
        """Share of a batch that is to be forgotten.

        Args:
            method (type[BaseMethod]): Class of the method; what it does not
                need is not loaded unless ``forget_ratio`` says so.

        Raises:
            ConfigError: If a half that the method needs would be empty.
        """
        ratio = self.forget_ratio
        if ratio is None:
            return {('forget',): 1.0, ('retain',): 0.0}.get(method.needs, 0.5)
        for role, lacks in dict(forget=ratio == 0, retain=ratio == 1).items():
            if lacks and role in method.needs:
                raise ConfigError(
                    'forget_ratio',
                    ratio,
                    f'{method.__name__} needs {role} images in every batch; '
                    'valid are numbers between 0 and 1',
                )
        return ratio


@dataclass(frozen=True)
class MethodEntry:
    """``method``: the loss, with settings that may differ by step.

    Attributes:
        config (dict): As in the config.
    """

    config: dict

    @property
    def cls(self) -> type[BaseMethod]:
        """Class of the method."""
        return class_of(self.config, METHODS)

    def for_step(self, step: int, num_steps: int) -> dict:
        """The method's config with the settings of one step.

        Args:
            step (int): Number of the step, from 1.
            num_steps (int): Steps of the sequence.

        Raises:
            ConfigError: If a list has another length.
        """
        out = {}
        for name, value in self.config.items():
            if name in self.cls.per_step and isinstance(value, list | tuple):
                if len(value) != num_steps:
                    raise ConfigError(
                        f'method.{name}',
                        list(value),
                        f'it has {len(value)} entries for {num_steps} steps; '
                        'give one number, or one for each step',
                    )
                value = value[step - 1]
            out[name] = value
        return out


@dataclass(frozen=True)
class SequenceEntries:
    """What a sequence config asks for.

    Attributes:
        forgetting (ForgettingEntry): What to forget.
        schedule (ScheduleEntry): How long and how fast.
        method (MethodEntry): How to forget.
        adapter (dict | None): Arguments of
            :func:`~gslora_mm.lora.inject_lora` and ``group_by``; None trains
            all weights.
        task (dict): Config of the task, its type told by the library if the
            config does not say.
    """

    forgetting: ForgettingEntry
    schedule: ScheduleEntry
    method: MethodEntry
    adapter: dict | None
    task: dict

    @property
    def forget_ratio(self) -> float:
        """Share of a batch that is to be forgotten."""
        with config_path('schedule'):
            return self.schedule.ratio_for(self.method.cls)

    def complete(self) -> dict[str, Any]:
        """All settings as plain data, defaults included, by entry."""
        method = dict(self.method.config)
        defaults = {
            each.name: each.default
            if each.default is not MISSING
            else each.default_factory()
            for each in fields(self.method.cls)
            if (each.default, each.default_factory) != (MISSING, MISSING)
        }
        return copy.deepcopy(
            dict(
                forgetting=asdict(self.forgetting),
                schedule=asdict(self.schedule),
                method={**defaults, **method},
                adapter=self.adapter,
                task=self.task,
            )
        )


def read_entries(cfg: Config) -> SequenceEntries:
    """Read and check the entries of a sequence config.

    Nothing but the config is looked at: no file, no data.

    Args:
        cfg (Config): The sequence config.

    Raises:
        ConfigError: If an entry is missing, a key of one is unknown, or has
            a value that it cannot have.
    """
    for name, meaning in _NEEDED.items():
        if not cfg.get(name):
            raise ConfigError(f'{name} is missing from the config: {meaning}')
    content = cfg.to_dict()
    with config_path('forgetting'):
        forgetting = ForgettingEntry.read(content['forgetting'])
    with config_path('schedule'):
        schedule = ScheduleEntry.read(content['schedule'])
    adapter = content.get('adapter')
    _check_adapter(adapter)
    entries = SequenceEntries(
        forgetting,
        schedule,
        MethodEntry(content['method']),
        adapter,
        complete_task_config(content.get('task'), cfg.get('default_scope')),
    )
    entries.forget_ratio  # noqa: B018  (checks)
    return entries


def build_all(entries: SequenceEntries, num_steps: int) -> None:
    """Build what needs neither model nor data: a check of all values.

    Args:
        entries (SequenceEntries): Of a sequence.
        num_steps (int): Its steps.

    Raises:
        ConfigError: If a setting is unknown, or has a value that it cannot
            have.
    """
    TASKS.build(entries.task)
    for step in range(1, num_steps + 1):
        METHODS.build(entries.method.for_step(step, num_steps))
    for hook in entries.schedule.hooks:
        with usable('schedule.hooks'):
            HOOKS.build(hook)


def _check_adapter(adapter: Mapping | None) -> None:
    """Refuse arguments that :func:`inject_lora` does not have."""
    known = {*inspect.signature(inject_lora).parameters, 'group_by'}
    for name in adapter or ():
        if name not in known - {'model'}:
            raise unknown_name('adapter', name, sorted(known - {'model'}))
