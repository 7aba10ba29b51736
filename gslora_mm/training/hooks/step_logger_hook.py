from mmengine.hooks import LoggerHook

from gslora_mm.registry import HOOKS


@HOOKS.register_module()
class StepLoggerHook(LoggerHook):
    """MMEngine's logger hook for a run that is evaluated after training.

    The stock hook closes the visualizer when training ends, and W&B then
    refuses the scores of the evaluation. Here whoever runs the step closes
    it, as :func:`gslora_mm.sequence.run_step` does.
    """

    def after_run(self, runner) -> None:
        """Leave the visualizer open."""
