import math

import torch
from mmengine.hooks import Hook

from gslora_mm.registry import HOOKS
from gslora_mm.utils.distributed import model_of
from ..non_finite import non_finite


@HOOKS.register_module()
class MethodHook(Hook):
    """Drive the method of a :class:`ForgettingModel` through its iterations.

    Before an iteration it draws the random numbers afresh from (seed,
    iteration, process), so that dropout in a resumed run is that of an
    uninterrupted one; after an iteration it lets the method act on the
    parameters and stops the run if the loss is not finite.
    """

    # Before any hook that saves or logs what this one refuses.
    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        sampler = runner.train_dataloader.sampler
        method = model_of(runner).method
        method.iterations_per_epoch = sampler.iterations_per_epoch
        method.max_iters = runner.max_iters

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        torch.manual_seed(
            (runner.seed * 1_000_003 + runner.iter) * 1_009 + runner.rank
        )
        model_of(runner).method.iteration = runner.iter

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        loss = outputs['loss'].item()
        if not math.isfinite(loss):
            terms = [f'{key} {v.item():.4g}' for key, v in outputs.items()]
            raise non_finite(
                runner, f'the loss is {loss}', f' ({", ".join(terms)})'
            )
        if runner.optim_wrapper.should_update():
            method = model_of(runner).method
            method.after_update(runner.optim_wrapper.optimizer)
