import time
from dataclasses import dataclass
from datetime import timedelta

from mmengine.hooks import Hook

from gslora_mm.registry import HOOKS

#: Seconds of training so far, kept in the message hub over a resume.
TRAIN_SECONDS = 'train_seconds'


@HOOKS.register_module()
@dataclass(eq=False)
class ProgressHook(Hook):
    """One line of progress now and then, and the time that training takes.

    Args:
        step (int): Number of this step, from 1.
        num_steps (int): Steps in the sequence.
        later_iters (int): Iterations of the steps after this one, for the
            estimated time of the whole sequence. Defaults to 0.
        interval (int): Iterations between two lines. Defaults to 50.
    """

    step: int
    num_steps: int
    later_iters: int = 0
    interval: int = 50

    priority = 'LOW'

    def before_train(self, runner) -> None:
        self._start = self._last = time.perf_counter()
        self._first_iter = runner.iter
        hub = runner.message_hub
        known = TRAIN_SECONDS in hub.runtime_info
        self._seconds = hub.get_info(TRAIN_SECONDS) if known else 0.0

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        now = time.perf_counter()
        self._seconds += now - self._last
        self._last = now
        runner.message_hub.update_info(TRAIN_SECONDS, self._seconds)
        done = runner.iter + 1
        if done % self.interval and done != runner.max_iters:
            return
        speed = (now - self._start) / (done - self._first_iter)
        eta = speed * (runner.max_iters - done)
        losses = '  '.join(
            f'{name.removeprefix("loss_")} {value.item():.3f}'
            for name, value in outputs.items()
            if name.startswith('loss_')
        )
        line = (
            f'step {self.step}/{self.num_steps}  iter {done:>4}/'
            f'{runner.max_iters}  {losses}  {speed:.2f} s/iter  '
            f'ETA {_clock(eta)}'
        )
        if self.later_iters:
            everything = eta + speed * self.later_iters
            line += f' (all steps {_clock(everything)})'
        runner.logger.info(line)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
