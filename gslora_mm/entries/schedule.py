from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gslora_mm.datasets import type_name
from gslora_mm.methods import BaseMethod
from gslora_mm.utils import ConfigError, config_path, usable
from .cache import CacheEntry
from .entry import Entry, check_count

#: Iterations that no scheduler begins after.
_LONG = 10**9


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry(Entry):
    """``schedule``: how long a step is trained, how fast, in what batches.

    Attributes:
        batch_size (int | str): Images of a batch, both halves together;
            ``'own'`` is that of the stock model's training, which fits into
            memory, but 4 at least and 48 at most.
        optim_wrapper (dict): As in any config of MMEngine.
        max_iters (int | None): Iterations of a step.
        max_epochs (int | str | None): The same in passes over the retain
            images; ``'half'`` is half as many as the stock model was trained
            for, of all of them, however many are used. An integer of
            ``max_iters`` takes its place.
        forget_ratio (float | None): Share of a batch that is to be
            forgotten; None is 0.5, or all of the one half that the method
            looks at.
        held_out (float): Share of the replay images that are not trained on,
            for hooks that look at some.
        param_scheduler (dict | list | None): As in any config, counting
            iterations; ``begin`` and ``end`` may be shares of a step, too.
        checkpoint_interval (int): Iterations between two saves.
        log_interval (int): Iterations between two lines of progress.
        hooks (list): More hooks.
        cache (CacheEntry): What is kept of the replay images; in a config
            its fields.
    """

    batch_size: Any
    optim_wrapper: dict
    max_iters: int | None = None
    max_epochs: Any = None
    forget_ratio: float | None = None
    held_out: float = 0.0
    param_scheduler: Any = None
    checkpoint_interval: int = 100
    log_interval: int = 50
    hooks: list = field(default_factory=list)
    cache: Any = field(default_factory=lambda: dict(use='auto'))

    meanings: ClassVar = dict(
        batch_size='images of a batch, both halves together',
        optim_wrapper="for example dict(type='OptimWrapper', "
        "optimizer=dict(type='AdamW', lr=1e-3))",
    )

    def __post_init__(self) -> None:
        check_count('batch_size', self.batch_size, 1, or_=", or 'own'")
        held_out = self.held_out
        if not isinstance(held_out, int | float) or not 0 <= held_out < 1:
            raise ConfigError('held_out', held_out, 'must be in [0, 1)')
        ratio = self.forget_ratio
        if ratio is not None and (
            not isinstance(ratio, int | float) or not 0 <= ratio <= 1
        ):
            raise ConfigError(
                'forget_ratio', ratio, 'must be in [0, 1], or None'
            )
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
        if (key, length) != ('max_epochs', 'half'):
            or_ = ", or 'half'" if key == 'max_epochs' else ''
            check_count(key, length, 1, or_)
        check_count('log_interval', self.log_interval, 1)
        found = self.param_scheduler
        if not isinstance(found, Mapping | list | tuple | None) or not all(
            isinstance(each, Mapping) for each in self._listed_schedulers()
        ):
            raise ConfigError(
                'param_scheduler', found, 'must be a dictionary, or some'
            )
        hooks = self.hooks
        if not isinstance(hooks, list | tuple) or not all(
            isinstance(each, Mapping) for each in hooks
        ):
            raise ConfigError('hooks', hooks, 'must be a list of dictionaries')
        self._check_annealing()
        with usable('param_scheduler'):
            self.schedulers(_LONG)
        if found and 'AutoScheduleHook' in self._hook_names:
            raise ConfigError(
                'param_scheduler',
                found,
                'AutoScheduleHook in schedule.hooks sets the learning rate; '
                'leave out one of the two, this one with None',
            )
        with config_path('cache'):
            object.__setattr__(self, 'cache', CacheEntry.read(self.cache))

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
            is_known = all(isinstance(x, int | float) for x in (eta_min, lr))
            if is_known and eta_min > lr:
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

        Returns:
            list[dict]: Their configs, without those that a step is too short
            for: they would begin when it ends, or last one iteration, in
            which a warm-up would not rise.

        Raises:
            ConfigError: If one counts epochs, ends before it begins, or a
                share is none.
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
            given = config
            config = {**given, 'by_epoch': False}
            for key in ('begin', 'end'):
                if key in given:
                    config[key] = _iterations(key, given[key], max_iters)
            _check_order(given)
            begin, end = config.get('begin', 0), config.get('end', max_iters)
            config['end'] = end
            if type_name(config).startswith('CosineAnnealing'):
                config.setdefault('T_max', end - begin)
            if min(end, max_iters) - begin > 1:
                out.append(config)
        return out

    @property
    def may_end_early(self) -> bool:
        """Whether a hook ends a step when it is done."""
        enders = {'AutoScheduleHook', 'ForgettingEarlyStopHook'}
        return bool(enders & self._hook_names)

    @property
    def _hook_names(self) -> set[str]:
        return set(map(type_name, self.hooks))

    def num_iterations(
        self, per_epoch: int, own: float | None = None
    ) -> int:
        """How long a step is trained.

        Args:
            per_epoch (int): Iterations of one pass over the retain images,
                or the forget images where a batch has no others; over all of
                them where ``max_epochs`` is ``'half'``.
            own (float, optional): Epochs that the stock model was trained
                for, where it is.
        """
        if self.max_iters is not None:
            return self.max_iters
        if self.max_epochs == 'half':
            return max(round(own / 2 * per_epoch), 1)
        return self.max_epochs * per_epoch

    def ratio_for(
        self, method: type[BaseMethod], absent: Collection[str] = ()
    ) -> float:
        """Share of a batch that is to be forgotten.

        Args:
            method (type[BaseMethod]): Class of the method; what it does not
                need is not loaded unless ``forget_ratio`` says so.
            absent (Collection[str]): Halves of which there is no image.
                Defaults to ().

        Raises:
            ConfigError: If a half that the method needs would be empty, or
                one that is absent would not.
        """
        ratio = self.forget_ratio
        for role, only in (('forget', 0.0), ('retain', 1.0)):
            if role in absent:
                if ratio not in (None, only):
                    raise ConfigError(
                        'forget_ratio',
                        ratio,
                        f'forgetting.{role}_share is 0, so there is nothing '
                        f'to fill the batches with; leave it out, or {only}',
                    )
                return only
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
            if lacks and not method.needs:
                raise ConfigError(
                    'forget_ratio',
                    ratio,
                    f'{method.__name__} would see no {role} image; if there '
                    f'is none, say so by forgetting.{role}_share = 0',
                )
        return ratio


def _iterations(key: str, value: Any, max_iters: int) -> Any:
    """Where a scheduler begins or ends, if that is a share of a step."""
    if not isinstance(value, float):
        return value
    if not 0 <= value <= 1:
        raise ConfigError(
            f'param_scheduler.{key}',
            value,
            'must be an int, or a share of the step from 0.0 to 1.0',
        )
    return round(value * max_iters)


def _check_order(config: Mapping) -> None:
    """Refuse a scheduler that ends where it begins, or before."""
    begin, end = config.get('begin', 0), config.get('end')
    are_alike = not begin or isinstance(begin, float) == isinstance(end, float)
    if end is None or not are_alike:
        return
    if end <= begin:
        raise ConfigError(
            'param_scheduler.end', end, f'must be above begin, {begin!r}'
        )
    if isinstance(end, int) and end - begin == 1:
        raise ConfigError(
            'param_scheduler.end',
            end,
            'is the iteration after begin, in which nothing would change; '
            'the end of a step is 1.0',
        )
