import logging

import torch
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner

from gslora_mm.registry import RUNNERS
from gslora_mm.utils.checkpoint import load_checkpoint


@RUNNERS.register_module()
class QuietRunner(Runner):
    """MMEngine's Runner with a console that shows only what matters.

    Environment, config, hooks and parameter initialisation go to the log
    file, as always; the console gets warnings and what the modules named in
    the config entry ``console`` log (by default MMEngine's logger hook). Two
    more things an ordinary Runner lacks: data parallel training on CPUs,
    and resuming from the small state that a forgetting step saves, without
    ever executing pickled code.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        modules = self.cfg.get('console', ('logger_hook', ))

        def for_console(record: logging.LogRecord) -> bool:
            return (
                record.levelno >= logging.WARNING or record.module in modules
            )

        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(for_console)
        return logger

    def wrap_model(self, model_wrapper_cfg, model):
        on_cpu = not torch.cuda.is_available()
        if not on_cpu or not self.distributed or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get(
                'find_unused_parameters', False
            ),
        )

    def load_checkpoint(
        self, filename, map_location='cpu', strict=False, revise_keys=()
    ) -> dict:
        """Load a checkpoint of this runner; see the base class."""
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if not hasattr(model, 'load_resume_state_dict'):
            return super().load_checkpoint(
                filename, map_location, strict, revise_keys or [(r'^module.', '')]
            )
        checkpoint = load_checkpoint(filename, key='resume')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_resume_state_dict(checkpoint['state_dict'])
        self._has_loaded = True
        return checkpoint



def init_processes_without_gpu(launcher: str) -> None:
    """Form the process group on a machine without a GPU.

    MMEngine's own ``init_dist``, which runs where this has not, selects a
    GPU in any case.

    Args:
        launcher (str): As on the command line; only ``'pytorch'``, that is
            torchrun, is handled here.
    """
    if launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
