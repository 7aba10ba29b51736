import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from mmengine.hooks import Hook

from gslora_mm.lora import lora_layers, scaled_lora
from gslora_mm.methods import BaseMethod
from gslora_mm.methods.settings import Count, Positive, check_setting
from gslora_mm.registry import HOOKS
from gslora_mm.utils import ConfigError, usable
from gslora_mm.utils.distributed import model_of, of_first_process
from ..auto_schedule import AutoSchedule, Course
from ..held_out import HeldOut, Look
from .adapter_ema_hook import AdapterEMAHook


@HOOKS.register_module()
class AutoScheduleHook(Hook):
    """A step whose settings find themselves.

    It looks now and then at replay images that the step is not trained on
    (``schedule.held_out``), and decides by what it sees there:

    * The *learning rate* begins far too low and rises by a factor each
      iteration, until the model is half as sure as before of what it is to
      forget; a part of the rate at that moment is kept. One that stands in
      ``schedule.optim_wrapper.optimizer.lr`` is taken as it is.
    * The *weight of forgetting* is the multiplier of a constraint: that at
      most ``target`` of the held-out objects to forget are still given their
      name, with a mean probability of at most twice as much. It rises from
      look to look as long as that is not so and gets no better.
    * The *end*: once the constraint holds, the rate falls along a cosine, and
      what is retained recovers, for as many iterations as forgetting took.
      If classes are back by then, it goes another round.
    * The *size* of the update, for a LoRA and the level behaviour: the end is
      about what has to go, and what has gone may have gone further than that.
      The update is scaled down in the end, half the way to the least part of
      it with which the constraint holds, and what is retained gets the
      difference back.
    * Settings of the *method* that depend on the scale of the model's
      losses, see :meth:`~gslora_mm.methods.BaseMethod.find_settings`. Those
      that stand in its config are taken as they are.

    ``schedule.max_iters`` is the most that a step takes; forgetting gets two
    thirds of it. A method for a deeper level than behaviour takes all of it,
    since no held-out image tells when its layers are where they should be.
    What has been found stands in the config of the finished step, as
    ``found``; with that, nothing is looked for, and the step is the same.

    Args:
        target (float): Share of the held-out objects of the step's classes
            that may still be given their name; half of the probability that
            they may have for it on average. Defaults to 0.01.
        interval (int): Iterations between two looks. Defaults to 20.
        start_lr (float): Learning rate of the first iteration.
            Defaults to 1e-4.
        max_lr (float): The highest one. Defaults to 0.03.
        rise (int): Iterations from the one to the other; a seventh of
            ``max_iters`` if that is less. Defaults to 40.
        kept_lr (float): Part of it that is kept. Defaults to 0.5.
        raise_weight (float): Factor by which the weight of forgetting rises.
            Defaults to 1.5.
        max_weight (float): What it is multiplied by at most. Defaults to 16.
        min_repair (int): Fewest iterations of recovery. Defaults to 60.
        take_back (float): How far the update is scaled down in the end, on
            the way to the least part of it that would do. Defaults to 0.5.
        most_images (int): Held-out images of each half that are looked at.
            Defaults to 48.
        minutes (float, optional): Time to train a step; fewer iterations are
            taken if ``max_iters`` would last longer. Defaults to None.
        found (dict, optional): What an earlier run found. Defaults to None.
    """

    # After the method has acted, before StepCheckpointHook saves.
    priority = 'LOW'

    def __init__(
        self,
        most_images: int = 48,
        minutes: float | None = None,
        found: dict | None = None,
        **settings: Any,
    ) -> None:
        check_setting('AutoScheduleHook.most_images', most_images, Count)
        if minutes is not None:
            check_setting('AutoScheduleHook.minutes', minutes, Positive)
        self.most_images, self.minutes = most_images, minutes
        with usable('AutoScheduleHook'):
            self.schedule = AutoSchedule(**settings)
        #: Of the method.
        self.settings: dict[str, float] = {}
        self.plan: list[Course] = []
        if found is not None:
            try:
                self.settings = dict(found['settings'])
                self.plan = [Course(**each) for each in found['course']]
                self.schedule.course = self.plan[:1]
                self.schedule.now  # noqa: B018  (there has to be one)
            except (IndexError, KeyError, TypeError) as error:
                raise ConfigError(
                    'AutoScheduleHook.found',
                    found,
                    f'{error}; must be what a finished step has there, or '
                    'None',
                ) from None

    @staticmethod
    def check_method(method: BaseMethod) -> None:
        """Refuse a method of which nothing can be found by looks.

        It does not forget from the first iteration on, or begins with a
        model that has lost what it is to forget, and all else.

        Raises:
            ConfigError: If so.
        """
        if not method.forgets_at_once():
            raise ConfigError(
                'schedule.hooks',
                valid='AutoScheduleHook watches classes go, and method.type '
                f'= {type(method).__name__!r} pushes none of them from the '
                'first iteration on; take a schedule with fixed settings, '
                'such as _base_/schedules/mini.py',
            )
        if method.level == 'weights':
            raise ConfigError(
                'schedule.hooks',
                valid='AutoScheduleHook looks for the learning rate at which '
                'the model loses what it is to forget, and method.type = '
                f'{type(method).__name__!r} begins with weights that have '
                'lost most of everything; take _base_/schedules/weights.py '
                'or, for a classifier, weights_classifier.py',
            )

    @staticmethod
    def check_images(images: dict[str, int]) -> None:
        """Refuse a step without an image of what is to be forgotten.

        Args:
            images (dict[str, int]): Number of images by half.

        Raises:
            ConfigError: If so.
        """
        if not images['forget']:
            raise ConfigError(
                'schedule.hooks',
                valid='AutoScheduleHook watches classes go, and there is no '
                'image of them to look at; take a schedule with fixed '
                'settings, such as _base_/schedules/mini.py',
            )

    def check_others(self, hooks: Sequence[Hook], model) -> None:
        """Refuse an average of weights, which would replace the scaled ones.

        Args:
            hooks (Sequence[Hook]): All of the schedule.
            model (ForgettingModel): What is trained.

        Raises:
            ConfigError: If there is one, and something to be taken back.
        """
        averages = any(isinstance(each, AdapterEMAHook) for each in hooks)
        takes_back = model.groups and model.method.level == 'behaviour'
        if averages and takes_back and self.schedule.take_back:
            raise ConfigError(
                'AutoScheduleHook.take_back',
                self.schedule.take_back,
                'AdapterEMAHook ends a step with an average of its weights, '
                'of which nothing is taken back; set it to 0, or leave that '
                'hook out',
            )

    @property
    def found(self) -> dict:
        """All that has been found, for another run."""
        course = [asdict(each) for each in self.schedule.course]
        return dict(settings=self.settings, course=course)

    def before_train(self, runner) -> None:
        model = model_of(runner)
        method = model.method
        optimizer = runner.optim_wrapper.optimizer
        base = optimizer.defaults['lr']
        for group in optimizer.param_groups:
            # Saved with the optimizer: a resumed one has other rates by now.
            group.setdefault('initial_lr', group['lr'])
        self._shares = [
            group['initial_lr'] / base for group in optimizer.param_groups
        ]
        self._weight = getattr(method, method.forget_weight or '', None)
        # Of the sampler: that of the loader may be a cache of it.
        dataset = runner.train_dataloader.sampler.dataset
        is_new = not (self.plan or self.schedule.looks)
        self.schedule.fit_into(runner.max_iters)
        if is_new:
            lr = runner.cfg.optim_wrapper.optimizer.get('lr')
            if lr is not None:
                self.schedule.course = [Course(0, 'push', lr)]
            self.settings = self._find_settings(runner, dataset)
        method.take_settings(self.settings)
        # A part of it may have been built anew.
        method.to(next(model.parameters()).device)
        self.schedule.is_whole = method.level != 'behaviour'
        if not self.plan:
            self.images = HeldOut(dataset, self.most_images)
            if is_new:
                self.schedule.looks.append((0, self._look(runner, 0)))
        self._start = time.perf_counter(), runner.iter

    @staticmethod
    def _find_settings(runner, dataset) -> dict[str, float]:
        model = model_of(runner)
        found = of_first_process(model.method.find_settings(model, dataset))
        given = runner.cfg.model.method
        found = {name: x for name, x in found.items() if name not in given}
        for name, value in found.items():
            runner.logger.info(f'method.{name} found: {value:.3g}')
        return found

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        lr = self.schedule.rate(runner.iter)
        groups = runner.optim_wrapper.optimizer.param_groups
        for group, share in zip(groups, self._shares, strict=True):
            group['lr'] = lr * share
        method = model_of(runner).method
        if self._weight is not None:
            weight = self._weight * self.schedule.now.weight
            method.take_settings({method.forget_weight: weight})

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        done, schedule = runner.iter + 1, self.schedule
        if self.plan:
            later = self.plan[len(schedule.course) :]
            if later and later[0].since == done:
                schedule.course.append(later[0])
                self._follow(runner, done)
            return
        limit = self._limit(runner, done)
        if schedule.is_due(done, limit):
            look = self._look(runner, done)
            if schedule.decide(done, look, limit):
                if schedule.now.phase == 'end':
                    self._take_part(model_of(runner))
                self._follow(runner, done)

    def _take_part(self, model) -> None:
        """Find out how much of the update has to stay."""
        if not model.groups or self.schedule.is_whole:
            return

        def look_at(part: float) -> Look:
            with scaled_lora(model.model, part):
                look = self.images.look(model, retained=False)
            return of_first_process(look)

        self.schedule.take_part(look_at, self.images.is_spared)

    def _limit(self, runner, done: int) -> int:
        """Most iterations of the step."""
        if self.minutes is None:
            return runner.max_iters
        start, first = self._start
        seconds = (time.perf_counter() - start) / (done - first)
        fitting = max(1, int(60 * self.minutes / seconds))
        # No two processes take the same time.
        return of_first_process(min(runner.max_iters, fitting))

    def _look(self, runner, done: int) -> Look:
        is_rising = done and self.schedule.now.phase == 'rise'
        look = self.images.look(model_of(runner), retained=not is_rising)
        # Statistics of normalisations that are trained differ by process.
        look = of_first_process(look)
        if is_rising:
            return look
        kind = 'held-out' if self.images.is_spared else 'replayed'
        loss = '' if look.loss is None else f', retain loss {look.loss:.3f}'
        runner.logger.info(
            f'iteration {done}: {100 * look.named:.0f} % of the {kind} '
            f'objects to forget are recognised{loss}'
        )
        return look

    def _follow(self, runner, done: int) -> None:
        """Say how the step goes on, and end it if it is done."""
        now = self.schedule.now
        if now.phase == 'end':
            runner.train_loop.stop_training = done < runner.max_iters
            with torch.no_grad():
                for layer in lora_layers(model_of(runner).model).values():
                    layer.lora_B.mul_(now.kept)
        words = dict(
            push=f'learning rate found: {now.lr:.2g}',
            repair=f'recovery until iteration {now.end}',
            end='done',
        )
        line = f'iteration {done}: {words[now.phase]}'
        if now.weight != 1 and self._weight is not None:
            line += f', weight of forgetting x {now.weight:.3g}'
        if now.kept != 1:
            line += f', {100 * now.kept:.0f} % of the update kept'
        runner.logger.info(line)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['auto_schedule'] = dict(
            found=self.found,
            looks=[[done, *look] for done, look in self.schedule.looks],
        )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        saved = checkpoint['auto_schedule']
        found = saved['found']
        self.settings = found['settings']
        self.schedule.course = [Course(**each) for each in found['course']]
        self.schedule.looks = [
            (done, Look(*look)) for done, *look in saved['looks']
        ]
