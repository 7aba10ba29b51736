"""Which multi-scale deformable attention runs on a CPU."""

import functools
import sys
from collections.abc import Callable
from types import ModuleType

import torch
from mmengine.logging import print_log
from torch import Tensor

from .compiled import NotCompiledError, chosen
from .compiled_attention import ARGUMENTS, compiled_layer
from .deformable_attention import deformable_attention

#: Environment variable with the choice, one of those below.
VARIABLE = 'GSLORA_MM_DEFORMABLE_ATTENTION'
#: In C++ where there is a compiler, and else as with ``'rows'``; in C++; by
#: rows of PyTorch where these are faster; mmcv's own.
CHOICES = ('auto', 'compiled', 'rows', 'mmcv')
#: Channels of a head from which on rows are faster: finding them costs the
#: same for any number, and mmcv's way is proportional to it.
MIN_CHANNELS = 16
_NAME = 'multi_scale_deformable_attn_pytorch'


def use_fast_attention() -> None:
    """Let mmcv's deformable attention compute by ours, where on a CPU.

    mmcv's layer has no argument for that. In C++ the whole layer is
    replaced, for the rest of the process; in PyTorch the function that it
    falls back on, which it looks up in its module each time. On a GPU
    nothing changes, not even where mmcv falls back there (bfloat16).

    Raises:
        ConfigError: If the environment variable has another value, or asks
            for what cannot be compiled.
    """
    choice = chosen(VARIABLE, CHOICES)
    # Not imported: a model that attends so has done that.
    module = sys.modules.get('mmcv.ops.multi_scale_deform_attn')
    if module is None:
        return
    stock = mmcv_fallback(module)
    layer = module.MultiScaleDeformableAttention
    stock_layer = _stock(layer.forward)
    if choice in ('auto', 'compiled'):
        layer.forward = _compiled(stock_layer)
    else:
        layer.forward = stock_layer
    setattr(module, _NAME, stock if choice == 'mmcv' else _by_rows(stock))


def mmcv_fallback(module: ModuleType) -> Callable[..., Tensor]:
    """mmcv's own function, whether it has been replaced or not.

    Args:
        module (ModuleType): ``mmcv.ops.multi_scale_deform_attn``.
    """
    return _stock(getattr(module, _NAME))


def _stock(function: Callable) -> Callable:
    return getattr(function, 'stock', function)


def _compiled(stock: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The forward pass of mmcv's layer, in C++ where it can be."""
    compiles = True

    @functools.wraps(stock)
    def forward(self, query: Tensor, *args, **kwargs) -> Tensor:
        nonlocal compiles
        # mmdet passes all else by name, and 'residual' is of older models.
        if (
            compiles
            and query.device.type == 'cpu'
            and (
                query.dtype in (torch.float32, torch.float64)
                or torch.is_autocast_enabled('cpu')
            )
            and not (args or 'residual' in kwargs)
        ):
            ours = {name: kwargs.get(name) for name in ARGUMENTS}
            try:
                return compiled_layer(self, query, **ours)
            except NotCompiledError as error:
                compiles = False  # not tried again
                print_log(
                    'deformable attention runs in PyTorch, as it could not '
                    f'be compiled: {error}',
                    'current',
                )
        return stock(self, query, *args, **kwargs)

    forward.stock = stock
    return forward


def _by_rows(stock: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function below where it is faster, mmcv's elsewhere."""

    def attend(value: Tensor, *args: Tensor) -> Tensor:
        on_cpu = value.device.type == 'cpu'
        wide = value.shape[3] >= MIN_CHANNELS
        return (deformable_attention if on_cpu and wide else stock)(
            value, *args
        )

    attend.stock = stock
    return attend
