from dataclasses import dataclass

import torch
from mmengine.hooks import Hook

from gslora_mm.registry import HOOKS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.distributed import model_of


@HOOKS.register_module()
@dataclass(eq=False)
class AdapterEMAHook(Hook):
    """Exponential moving average of the trainable parameters.

    .. math::
        \\bar\\theta \\leftarrow d\\,\\bar\\theta + (1 - d)\\,\\theta

    as the scripts of GS-LoRA++ use it. The average takes the place of the
    parameters when training ends, before the adapter is merged and the step
    evaluated: what is evaluated, saved and merged is the same thing. (The
    public code copies unmerged weights into a model flagged as merged, and
    so evaluates weights without their LoRA.)

    An average of a group that was once not zero is not zero either: with a
    proximal method it gives up the exact zeros.

    Args:
        decay (float): d. Defaults to 0.9.
        begin_iter (int): Iterations before the average starts.
            Defaults to 0.
        begin_epoch (int): The same in passes over the retain images; the
            later of the two counts. Defaults to 0.
        interval (int): Iterations between two updates. Defaults to 1.
    """

    decay: float = 0.9
    begin_iter: int = 0
    begin_epoch: int = 0
    interval: int = 1

    priority = 'ABOVE_NORMAL'

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(
                'AdapterEMAHook.decay', self.decay, 'must be in [0, 1)'
            )
        leasts = dict(begin_iter=0, begin_epoch=0, interval=1)
        for name, least in leasts.items():
            value = getattr(self, name)
            if value < least:
                raise ConfigError(
                    f'AdapterEMAHook.{name}', value, f'must be >= {least}'
                )
        self.average: dict[str, torch.Tensor] = {}

    def before_train(self, runner) -> None:
        if self.begin_epoch:
            sampler = runner.train_dataloader.sampler
            epochs = self.begin_epoch * sampler.iterations_per_epoch
            self.begin_iter = max(self.begin_iter, epochs)

    @torch.no_grad()
    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        done = runner.iter + 1 - self.begin_iter
        if done < 1 or done % self.interval:
            return
        parameters = _trainable(runner)
        if not self.average:
            self.average = {k: p.detach().clone() for k, p in parameters}
            return
        for name, parameter in parameters:
            self.average[name].lerp_(parameter.detach(), 1 - self.decay)

    @torch.no_grad()
    def after_train(self, runner) -> None:
        for name, parameter in _trainable(runner):
            if self.average:
                parameter.copy_(self.average[name])

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['adapter_ema'] = {
            name: tensor.cpu() for name, tensor in self.average.items()
        }

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        devices = {name: p.device for name, p in _trainable(runner)}
        self.average = {
            name: tensor.to(devices[name])
            for name, tensor in checkpoint.get('adapter_ema', {}).items()
        }


def _trainable(runner) -> list[tuple[str, torch.nn.Parameter]]:
    return [
        (name, parameter)
        for name, parameter in model_of(runner).named_parameters()
        if parameter.requires_grad
    ]
