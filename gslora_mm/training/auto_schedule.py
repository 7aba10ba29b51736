"""How fast and how long a step is trained, decided on the way."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gslora_mm.methods.settings import Count, Positive, Share, check_setting
from gslora_mm.utils import ConfigError
from .held_out import Look

#: Iterations between two looks while the learning rate rises.
RISE_INTERVAL = 5
#: The part of a step's iterations in which it rises, at most.
RISE_SHARE = 1 / 7
#: The part of a step's iterations after which it forgets no longer.
FORGETTING_SHARE = 2 / 3
#: A share of objects still recognised that is not below this part of the one
#: at the look before counts as no progress.
NO_PROGRESS = 0.7
#: How sure a model may be of what it should have forgotten, in units of the
#: share that it may still recognise: of 45 images, none says little.
SURETY_TIMES = 2.0
#: What the learning rate falls to, as a part of that found.
LAST_RATE = 0.01
#: Parts of a step's update that are looked at in the end, and how sure the
#: model may be with them, in the same units. That is far below what ends a
#: step: what has only just gone would come back.
PARTS = (0.9, 0.8, 0.7, 0.6, 0.5)
SURETY_OF_PARTS = 0.5
#: The same where images are looked at that are trained on: what they show is
#: more surely gone from them than from others.
SURETY_OF_TRAINED = 0.25


@dataclass(frozen=True)
class Course:
    """How a step goes on from some iteration.

    Attributes:
        since (int): Iterations finished when this was decided.
        phase (str): ``'rise'``, the learning rate rises; ``'push'``, it is
            found, and the classes go; ``'repair'``, it falls, and what is
            retained recovers; ``'end'``.
        lr (float): Learning rate at the start of the phase.
        weight (float): What the weight of forgetting is multiplied by.
        start (int): Iterations finished when the phase began.
        end (int): Those when it ends; 0 if that is not known yet.
        kept (float): In the end, the part of the step's update that stays.
    """

    since: int
    phase: str
    lr: float
    weight: float = 1.0
    start: int = 0
    end: int = 0
    kept: float = 1.0


@dataclass(kw_only=True)
class AutoSchedule:
    """Decides by looks at held-out images, see :class:`AutoScheduleHook`.

    Args:
        target, interval, start_lr, max_lr, rise, kept_lr, raise_weight,
            max_weight, min_repair, take_back: As in :class:`AutoScheduleHook`.

    Attributes:
        is_whole (bool): Whether the step takes all its iterations.
        course (list[Course]): All that was decided, in order.
        looks (list[tuple[int, Look]]): What was seen, and after how many
            iterations.
    """

    target: float = 0.01
    interval: int = 20
    start_lr: float = 1e-4
    max_lr: float = 0.03
    rise: int = 40
    kept_lr: float = 0.5
    raise_weight: float = 1.5
    max_weight: float = 16.0
    min_repair: int = 60
    take_back: float = 0.5
    is_whole: bool = False
    course: list[Course] = field(default_factory=list)
    looks: list[tuple[int, Look]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rules = dict(
            target=Share,
            interval=Count,
            start_lr=Positive,
            max_lr=Positive,
            rise=Count,
            kept_lr=Share,
            raise_weight=Positive,
            max_weight=Positive,
            min_repair=Count,
            take_back=Share,
        )
        for name, rule in rules.items():
            check_setting(_path(name), getattr(self, name), rule)
        if self.raise_weight <= 1:
            raise ConfigError(
                _path('raise_weight'), self.raise_weight, 'must be above 1'
            )
        if self.start_lr > self.max_lr:
            raise ConfigError(
                _path('start_lr'),
                self.start_lr,
                f'must be at most max_lr = {self.max_lr}',
            )
        if not self.course:
            self.course.append(Course(0, 'rise', self.start_lr))

    @property
    def now(self) -> Course:
        """The course that holds."""
        return self.course[-1]

    def fit_into(self, limit: int) -> None:
        """Let the rate rise faster in a step of few iterations.

        Args:
            limit (int): Most iterations of the step.
        """
        self.rise = min(self.rise, max(1, int(RISE_SHARE * limit)))

    def rate(self, done: int) -> float:
        """Learning rate of the iteration after ``done`` others."""
        now = self.now
        if now.phase == 'rise':
            share = min(done / self.rise, 1.0)
            return now.lr * (self.max_lr / now.lr) ** share
        if now.phase != 'repair':
            return now.lr
        share = min((done - now.start) / (now.end - now.start), 1.0)
        fall = (1 + math.cos(math.pi * share)) / 2
        return now.lr * (LAST_RATE + (1 - LAST_RATE) * fall)

    def is_due(self, done: int, limit: int) -> bool:
        """Whether to look after ``done`` iterations.

        Args:
            done (int): Iterations finished.
            limit (int): Most iterations of the step.
        """
        interval = self.interval
        if self.now.phase == 'rise':
            interval = min(interval, RISE_INTERVAL)
        return done % interval == 0 or done == self.now.end or done >= limit

    def decide(self, done: int, look: Look, limit: int) -> bool:
        """Take note of a look, and change the course if need be.

        Args:
            done (int): Iterations finished.
            look (Look): At the model after these.
            limit (int): Most iterations of the step.

        Returns:
            bool: Whether the course is another one now.
        """
        self.looks.append((done, look))
        before, now = self.now, self._next(done, look, limit)
        if now != before:
            self.course.append(replace(now, since=done))
        return now != before

    def take_part(
        self, look_at: Callable[[float], Look], is_spared: bool = True
    ) -> None:
        """Find the part of the step's update that stays.

        Args:
            look_at (Callable): Gives a look at a part of it.
            is_spared (bool): Whether what is looked at is not trained on.
                Defaults to True.
        """
        times = SURETY_OF_PARTS if is_spared else SURETY_OF_TRAINED
        least = 1.0
        for part in PARTS:
            if not self.is_gone(look_at(part), times):
                break
            least = part
        kept = 1 - self.take_back * (1 - least)
        self.course[-1] = replace(self.now, kept=kept)

    def is_gone(self, look: Look, times: float = SURETY_TIMES) -> bool:
        """Whether a look shows that the constraint holds."""
        return (
            look.named <= self.target and look.surety <= times * self.target
        )

    def _next(self, done: int, look: Look, limit: int) -> Course:
        now, is_gone = self.now, self.is_gone(look)
        if done >= limit:
            return replace(now, phase='end')
        if now.phase == 'repair' and done < now.end:
            return now if is_gone else self._harder(now)
        if now.phase == 'repair':
            if is_gone or limit - done < self.min_repair:
                return replace(now, phase='end')
            again = replace(self._harder(now), start=done)
            return replace(again, end=min(done + self.min_repair, limit))
        if now.phase == 'rise':
            lr = self.rate(done - 1)
            if is_gone or lr >= self.max_lr or self._is_unsure(look):
                now = Course(done, 'push', self.kept_lr * lr, start=done)
            elif done < FORGETTING_SHARE * limit:
                return now
        elif not is_gone and self._stands_still(done, look):
            now = self._harder(now)
        if is_gone or done >= FORGETTING_SHARE * limit:
            end = min(done + max(done, self.min_repair), limit)
            end = limit if self.is_whole else end
            now = replace(now, phase='repair', start=done, end=end)
        return now

    def _is_unsure(self, look: Look) -> bool:
        return look.surety <= self.looks[0][1].surety / 2

    def _stands_still(self, done: int, look: Look) -> bool:
        """Whether a look shows no progress over one an interval before."""
        before = [
            each for at, each in self.looks if at <= done - self.interval
        ]
        has_begun = done - self.now.start >= self.interval
        return has_begun and look.named > NO_PROGRESS * before[-1].named

    def _harder(self, now: Course) -> Course:
        weight = min(now.weight * self.raise_weight, self.max_weight)
        return replace(now, weight=weight)


def _path(name: str) -> str:
    return f'AutoScheduleHook.{name}'
