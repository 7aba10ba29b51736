"""The end of a run whose figures are no numbers any more, in words."""

from typing import Any

ADVICE = (
    'lower schedule.optim_wrapper.optimizer.lr, method.beta or method.bound, '
    'or set schedule.optim_wrapper.clip_grad'
)


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite."""


def non_finite(
    runner: Any, what: str, details: str = ''
) -> NonFiniteLossError:
    """Make the error of a run that cannot go on.

    Args:
        runner (Any): The runner, in the iteration that it happened in.
        what (str): What is not finite, such as ``'the loss is nan'``.
        details (str): What stands after the iteration. Defaults to ''.
    """
    return NonFiniteLossError(
        f'{what} at iteration {runner.iter + 1} of {runner.max_iters}'
        f'{details}. The last good state of this step, if any, is kept in '
        f'{runner.work_dir}, and all finished steps are untouched; {ADVICE}'
    )
