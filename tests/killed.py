"""Runs that end in the middle, as by ``kill -9``."""

from gslora_mm.training.hooks import StepCheckpointHook


class Killed(BaseException):
    """What a test throws instead of ``kill -9``."""


def killed_after(iterations):
    """Stand-in for ``StepCheckpointHook.after_train_iter`` that kills a run.

    What the hook saves after the last iteration has been saved then.

    Args:
        iterations: How many the run has, all its steps together.
    """
    after_train_iter = StepCheckpointHook.after_train_iter
    count = 0

    def save_and_count(self, runner, *args, **kwargs):
        nonlocal count
        after_train_iter(self, runner, *args, **kwargs)
        count += 1
        if count == iterations:
            raise Killed

    return save_and_count
