import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmengine.config import Config

from gslora_mm.lora import inject_lora
from gslora_mm.registry import HOOKS, METHODS, TASKS, registered
from gslora_mm.tasks import complete_task_config
from gslora_mm.utils import ConfigError, config_path, unknown_name, usable
from .forgetting import ForgettingEntry
from .method import MethodEntry
from .own_training import own_epochs
from .schedule import ScheduleEntry

#: Entries that a sequence may have beside those of its stock model.
NAMES = ('forgetting', 'task', 'method', 'adapter', 'schedule')

#: Least and most images of a batch where ``schedule.batch_size`` is ``'own'``.
OWN_BATCH_SIZES = (4, 48)

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
            return self.schedule.ratio_for(
                self.method.cls, self.forgetting.absent
            )

    def complete(self) -> dict[str, Any]:
        """All settings as plain data, defaults included, by entry."""
        return {**asdict(self), 'method': self.method.complete()}


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
            raise ConfigError(
                name, valid=f'it is missing from the config; {meaning}'
            )
    content = cfg.to_dict()
    with config_path('forgetting'):
        forgetting = ForgettingEntry.read(content['forgetting'])
    with config_path('schedule'):
        schedule = ScheduleEntry.read(_as_trained(content))
    adapter = content.get('adapter')
    _check_adapter(adapter)
    entries = SequenceEntries(
        forgetting,
        schedule,
        MethodEntry(content['method']),
        adapter,
        complete_task_config(content.get('task'), cfg.get('default_scope')),
    )
    _check_absent(entries)
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


def _as_trained(content: Mapping) -> Any:
    """The entry ``schedule``, with what it takes from the stock model's.

    Args:
        content (Mapping): All of the config.

    Raises:
        ConfigError: If that does not say what is asked for.
    """
    schedule = content['schedule']
    if not isinstance(schedule, Mapping):
        return schedule
    if schedule.get('max_epochs') == 'half':
        if schedule.get('max_iters') is None:
            own_epochs(content, 1)  # checks
        else:
            schedule = {**schedule, 'max_epochs': None}
    if schedule.get('batch_size') != 'own':
        return schedule
    loader = content['train_dataloader']
    own = loader.get('batch_size') if isinstance(loader, Mapping) else None
    if not isinstance(own, int):
        raise ConfigError(
            'batch_size',
            'own',
            f'train_dataloader.batch_size is {own!r}; must be an int there, '
            'or here',
        )
    least, most = OWN_BATCH_SIZES
    return {**schedule, 'batch_size': min(max(own, least), most)}


def _check_absent(entries: SequenceEntries) -> None:
    """Refuse a method that needs images of which there are none."""
    absent = entries.forgetting.absent
    if len(absent) == 2:
        raise ConfigError(
            'forgetting.forget_share',
            0,
            'retain_share is 0, too, and nothing is left to learn from; give '
            'one of them images',
        )
    for role in absent:
        if role in entries.method.cls.needs:
            able = [
                name
                for name, cls in registered(METHODS).items()
                if role not in cls.needs
            ]
            raise ConfigError(
                f'forgetting.{role}_share',
                0,
                f'{entries.method.cls.__name__} needs {role} images; methods '
                f'that do without are {", ".join(able)}',
            )


def _check_adapter(adapter: Mapping | None) -> None:
    """Refuse arguments that :func:`inject_lora` does not have."""
    if not isinstance(adapter, Mapping | None):
        raise ConfigError(
            'adapter', adapter, 'must be such as dict(rank=8), or None'
        )
    known = {*inspect.signature(inject_lora).parameters, 'group_by'}
    for name in adapter or ():
        if name not in known - {'model'}:
            raise unknown_name('adapter', name, sorted(known - {'model'}))
