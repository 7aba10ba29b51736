from dataclasses import dataclass

from mmengine.hooks import Hook

from gslora_mm.methods.settings import Count, check_setting
from gslora_mm.registry import HOOKS
from gslora_mm.utils.distributed import model_of
from gslora_mm.work_dir import StepDir
from ..non_finite import non_finite


@HOOKS.register_module()
@dataclass(eq=False)
class StepCheckpointHook(Hook):
    """Save what an unfinished step needs to go on, atomically.

    One file, which the runner replaces as a whole: adapter, optimizer,
    schedulers, averages, counters and logs, but not the frozen model, which
    the step's starting checkpoint has. A process killed while saving leaves
    the file of before.

    Args:
        interval (int): Iterations between two saves; the end of training is
            always saved. Defaults to 100.
    """

    interval: int = 100

    priority = 'VERY_LOW'

    def __post_init__(self) -> None:
        check_setting('schedule.checkpoint_interval', self.interval, Count)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        last = runner.train_loop.stop_training or (
            runner.iter + 1 == runner.max_iters
        )
        if last or self.every_n_train_iters(runner, self.interval):
            self._check_parameters(runner)
            files = StepDir(runner.work_dir)
            runner.save_checkpoint(
                files.path, files.resume.name, by_epoch=False
            )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['state_dict'] = {
            name: tensor.cpu()
            for name, tensor in model_of(runner).resume_state_dict().items()
        }
        checkpoint['stop_training'] = runner.train_loop.stop_training

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        stopped = checkpoint.get('stop_training', False)
        runner.train_loop.stop_training = stopped

    @staticmethod
    def _check_parameters(runner) -> None:
        """Never replace a good state by one that cannot go on.

        A finite loss can have gradients that are not; the last iteration is
        always saved, so that nothing else is merged either.
        """
        for name, parameter in model_of(runner).named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise non_finite(runner, f'{name} is not finite')
