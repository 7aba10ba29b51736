from dataclasses import dataclass

from mmengine.hooks import Hook

from gslora_mm.lora import group_norms
from gslora_mm.registry import HOOKS
from gslora_mm.utils.distributed import model_of


@HOOKS.register_module()
@dataclass(eq=False)
class GroupNormHook(Hook):
    """Log the l2 norm of every LoRA group during training.

    The values go to the log file, TensorBoard, W&B and so on as
    ``groups/NAME`` through MMEngine's own logger hook, with the number of
    groups that are not exactly zero as ``groups/active``.

    Args:
        interval (int): Iterations between two measurements. Defaults to 50.
    """

    interval: int = 50

    # Before LoggerHook, which collects what is logged in this iteration.
    priority = 'NORMAL'

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        if not self.every_n_inner_iters(batch_idx, self.interval):
            return
        model = model_of(runner)
        if not model.groups:
            return
        norms = group_norms(model.model, model.group_by)
        hub = runner.message_hub
        for name, entry in norms.items():
            hub.update_scalar(f'train/groups/{name}', entry['norm'])
        active = sum(entry['active'] for entry in norms.values())
        hub.update_scalar('train/groups/active', active)
