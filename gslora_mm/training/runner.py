import os.path as osp

import torch
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger, print_log
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as StockRunner
from torch import nn
from torch.utils.data import DataLoader

from gslora_mm.models.fast_operators import use_fast_operators
from gslora_mm.registry import RUNNERS
from gslora_mm.utils import atomic_path
from gslora_mm.utils.checkpoint import load_checkpoint
from gslora_mm.utils.distributed import model_of, share_tensors
from gslora_mm.utils.quiet import no_prints
from .console import show_only
from .forgetting_model import ForgettingModel
from .non_finite import NonFiniteLossError, non_finite


# The second name stands in configs of steps that earlier versions wrote.
@RUNNERS.register_module(name=['Runner', 'QuietRunner'])
class Runner(StockRunner):
    """MMEngine's Runner for runs that can be killed, on any machine.

    What it has more: data parallel training and a faster deformable
    attention on CPUs; checkpoints that are never half written; loading
    without executing pickled code, also of the small state that a
    forgetting step saves; an end, :meth:`close`; and a console that shows
    warnings and what the modules named in the config entry ``console`` log
    (by default MMEngine's logger hook and the share of an adapter). The log
    file gets all, as ever.
    """

    def __init__(self, *args, **kwargs) -> None:
        self.built_loops: list[BaseLoop] = []
        super().__init__(*args, **kwargs)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        modules = self.cfg.get('console', ('logger_hook', 'adapted_model'))
        show_only(logger, modules)
        return logger

    @staticmethod
    def build_dataloader(dataloader, *args, **kwargs) -> DataLoader:
        if (
            isinstance(dataloader, dict)
            and dataloader.get('persistent_workers')
            and not dataloader.get('num_workers')
        ):
            # torch refuses that, and many set the one and forget the other.
            dataloader = {**dataloader, 'persistent_workers': False}
            print_log(
                'num_workers = 0: there are no workers to persist; '
                'persistent_workers is taken as False',
                'current',
            )
        with no_prints():
            return StockRunner.build_dataloader(dataloader, *args, **kwargs)

    def open_train_dataloader(self) -> DataLoader:
        """Build the loader to train on, before the loop that reads it."""
        # As MMEngine's loops do.
        by_rank = self._randomness_cfg.get('diff_rank_seed', False)
        loader = self.build_dataloader(
            self._train_dataloader, seed=self.seed, diff_rank_seed=by_rank
        )
        self.train_on(loader)
        return loader

    def train_on(self, dataloader: DataLoader) -> None:
        """Train on another loader than that of the config."""
        self._train_dataloader = dataloader

    def train(self) -> nn.Module:
        """Train the model; see the base class.

        Raises:
            NonFiniteLossError: If a task meets figures that are no numbers.
        """
        try:
            return super().train()
        except NonFiniteLossError:
            raise
        except FloatingPointError as error:
            raise non_finite(self, str(error)) from error

    def build_evaluator(self, evaluator) -> Evaluator:
        with no_prints():
            return super().build_evaluator(evaluator)

    def build_train_loop(self, loop) -> BaseLoop:
        return self._keep_loop(super().build_train_loop(loop))

    def build_val_loop(self, loop) -> BaseLoop:
        return self._keep_loop(super().build_val_loop(loop))

    def build_test_loop(self, loop) -> BaseLoop:
        return self._keep_loop(super().build_test_loop(loop))

    def _keep_loop(self, loop: BaseLoop) -> BaseLoop:
        self.built_loops.append(loop)
        return loop

    def build_model(self, model) -> torch.nn.Module:
        model = super().build_model(model)
        use_fast_operators()
        return model

    def wrap_model(self, model_wrapper_cfg, model):
        if not self.distributed or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        if isinstance(model, ForgettingModel):
            # It averages its gradients itself, after several backward
            # passes, which DistributedDataParallel cannot follow.
            model = model.to(get_device())
            share_tensors(p for p in model.parameters() if p.requires_grad)
            # What a method made of them when it was set up.
            share_tensors(model.method.buffers())
            return model
        if torch.cuda.is_available():
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get(
                'find_unused_parameters', False
            ),
        )

    @master_only
    def save_checkpoint(self, out_dir, filename, *args, **kwargs) -> None:
        """Save a checkpoint as a whole or not at all; see the base class."""
        with atomic_path(osp.join(out_dir, filename)) as path:
            super().save_checkpoint(
                str(path.parent), path.name, *args, **kwargs
            )

    def load_checkpoint(
        self,
        filename,
        map_location='cpu',
        strict=False,
        revise_keys=((r'^module.', ''),),
    ) -> dict:
        """Load a checkpoint without executing code; see the base class.

        Raises:
            ConfigError: If a local file holds more than data.
        """
        model = model_of(self)
        if not isinstance(model, ForgettingModel):
            if osp.isfile(filename):
                # There is no entry to allow it with.
                load_checkpoint(filename, None, key='load_from')
            return super().load_checkpoint(
                filename, map_location, strict, revise_keys
            )
        checkpoint = load_checkpoint(filename, key='resume')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_resume_state_dict(checkpoint['state_dict'])
        return checkpoint

    def close(self) -> None:
        """End what has been started for the runner; it cannot go on then.

        Left to garbage collection - a runner refers to itself - each data
        loader would take five seconds: the queues to its workers are closed
        before it can tell them to leave, so it waits for them in vain
        (torch 2.13, ``MP_STATUS_CHECK_INTERVAL``).
        """
        self.visualizer.close()
        for loop in self.built_loops:
            endless = getattr(loop, 'dataloader_iterator', None)
            for holder in (loop.dataloader, endless):
                iterator = getattr(holder, '_iterator', None)
                # Loaders without workers have nothing to be stopped. torch
                # has no public way to stop those of others.
                if hasattr(iterator, '_shutdown_workers'):
                    iterator._shutdown_workers()
