"""Mixed precision on whatever device there is."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn

from gslora_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Optimizer wrapper with bfloat16 autocast, on a CPU too.

    MMEngine's ``AmpOptimWrapper`` refuses CPUs, although many have bfloat16
    matrix units. bfloat16 has the range of float32, so that no loss scaling
    is needed; parameters and optimizer states stay in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Run the enclosed forward pass under autocast."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def enable_amp(optim_wrapper: dict) -> dict:
    """Switch a config of an optimizer wrapper to mixed precision.

    Args:
        optim_wrapper (dict): As in a config.

    Returns:
        dict: MMEngine's ``AmpOptimWrapper`` with dynamic loss scaling where
        there is a GPU, :class:`BFloat16OptimWrapper` otherwise.
    """
    optim_wrapper = dict(optim_wrapper)
    if torch.cuda.is_available():
        optim_wrapper['type'] = 'AmpOptimWrapper'
        optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        optim_wrapper['type'] = 'gslora_mm.BFloat16OptimWrapper'
        for key in ('loss_scale', 'dtype'):
            optim_wrapper.pop(key, None)
    return optim_wrapper
