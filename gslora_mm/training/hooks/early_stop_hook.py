from collections import deque
from dataclasses import dataclass

from mmengine.hooks import Hook

from gslora_mm.methods import BaseMethod
from gslora_mm.methods.settings import Count, check_setting
from gslora_mm.registry import HOOKS
from gslora_mm.utils import ConfigError


@HOOKS.register_module()
@dataclass(eq=False)
class ForgettingEarlyStopHook(Hook):
    """End a step when the classes are gone and the rest is stable.

    Both are read off the training losses, never off test data: the bounded
    forgetting loss has been zero, on average below ``forget_tolerance``,
    over a window of iterations, and the mean retain loss of that window is
    within ``retain_tolerance`` of the window before. Iterations in which a
    method has only one of these losses do not count, and a forgetting loss
    below zero has no such end. Wrong labels that are drawn anew for each
    view stay well above the tolerance with a classifier, where none of the
    many that may be drawn can be learnt: it needs a higher one there.

    Args:
        window (int): Iterations a window has. Defaults to 50.
        forget_tolerance (float): Largest mean of the forgetting loss.
            Defaults to 0.01.
        retain_tolerance (float): Largest relative change of the mean
            retain loss between two windows. Defaults to 0.05.
        min_iters (int): Iterations that are always trained. Defaults to 0.
    """

    window: int = 50
    forget_tolerance: float = 0.01
    retain_tolerance: float = 0.05
    min_iters: int = 0

    # Before StepCheckpointHook, which saves the decision.
    priority = 'LOW'

    def __post_init__(self) -> None:
        check_setting('ForgettingEarlyStopHook.window', self.window, Count)
        self.history: deque[tuple[float, float]] = deque(
            maxlen=2 * self.window
        )

    @staticmethod
    def check_method(method: BaseMethod) -> None:
        """Refuse a method whose losses do not say when it is done.

        Raises:
            ConfigError: If so.
        """
        has_both = {'forget', 'retain'} <= set(method.needs)
        if not (has_both and method.ends_at_zero):
            raise ConfigError(
                'schedule.hooks',
                valid='ForgettingEarlyStopHook needs a forgetting loss that '
                'ends at zero and a retain loss, and method.type = '
                f'{type(method).__name__!r} lacks one of them; leave the '
                'hook out',
            )

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        if not {'loss_forget', 'loss_retain'} <= set(outputs):
            return
        self.history.append(
            (outputs['loss_forget'].item(), outputs['loss_retain'].item())
        )
        done = runner.iter + 1
        if done < max(self.min_iters, 2 * self.window) or not self._stable():
            return
        runner.train_loop.stop_training = True
        runner.logger.info(
            f'forgotten and stable: stopping at iteration {done} of '
            f'{runner.max_iters}'
        )

    def _stable(self) -> bool:
        if len(self.history) < 2 * self.window:
            return False
        forget, retain = zip(*self.history, strict=True)
        if min(forget[self.window :]) < 0:
            return False
        retain_before = sum(retain[: self.window]) / self.window
        change = abs(sum(retain[self.window :]) / self.window - retain_before)
        return (
            sum(forget[self.window :]) / self.window <= self.forget_tolerance
            and change <= self.retain_tolerance * abs(retain_before)
        )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['early_stop_history'] = [list(p) for p in self.history]

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        self.history.clear()
        self.history.extend(
            tuple(pair) for pair in checkpoint.get('early_stop_history', ())
        )
