"""Dropout on a CPU, in C++: ``csrc/dropout.cpp``.

PyTorch draws random numbers one after another, and keeps what it has drawn
for the backward pass. Here what is dropped is a hash of a seed and an index,
which takes no longer than to read and to write a tensor, and is computed
again in the backward pass.
"""

import ctypes
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: F401  TorchScript looks here
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from .compiled import NotCompiledError, chosen, library

#: Environment variable with the choice, one of those below.
VARIABLE = 'GSLORA_MM_DROPOUT'
#: In C++ where there is a compiler, and else PyTorch's; in C++; PyTorch's.
CHOICES = ('auto', 'compiled', 'pytorch')
_TYPES = (torch.float32, torch.float64, torch.bfloat16)


def use_fast_dropout() -> None:
    """Let ``nn.Dropout`` drop by ours on a CPU, from now on.

    The class gets another forward pass, so that modules are, copy and save
    what they did.

    Raises:
        ConfigError: If the environment variable has another value, or asks
            for what cannot be compiled.
    """
    choice = chosen(VARIABLE, CHOICES)
    stock = getattr(nn.Dropout.forward, 'stock', nn.Dropout.forward)
    nn.Dropout.forward = stock if choice == 'pytorch' else _compiled(stock)


def compiled_dropout(x: Tensor, p: float) -> Tensor:
    """Drop a share of the elements, and scale the others.

    The seed is drawn from PyTorch's generator of the CPU, once: the same one
    drops the same elements, whatever the number of threads.

    Args:
        x (Tensor): On a CPU, in float32, float64 or bfloat16.
        p (float): The share, above 0 and below 1.

    Returns:
        Tensor: Of the shape and type of x, contiguous.

    Raises:
        NotCompiledError: See :func:`~.compiled.library`.
    """
    library()  # may fail, before a number is drawn
    seed = torch.empty((), dtype=torch.int64, device='cpu').random_()
    return _Dropout.apply(x, p, int(seed))


class _Dropout(torch.autograd.Function):
    """Each element times 0 or 1 / (1 - p), and so is its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.how = p, seed
        x = x.contiguous()
        output = torch.empty_like(x)
        function = getattr(library(), f'dropout_{str(x.dtype)[6:]}')
        function(
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_void_p(output.data_ptr()),
            ctypes.c_int64(x.numel()),
            ctypes.c_uint64(seed),
            ctypes.c_double(p),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Dropout.apply(grad, *ctx.how), None, None


def _compiled(stock: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The forward pass of ``nn.Dropout``, in C++ where it can be."""
    compiles = True

    @functools.wraps(stock)
    def forward(self, input: Tensor) -> Tensor:
        nonlocal compiles
        # First, as what traces PyTorch's operators does not see ours.
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return stock(self, input)
        if (
            compiles
            and self.training
            and 0 < self.p < 1
            and not self.inplace
            and type(input) in (Tensor, nn.Parameter)
            and input.device.type == 'cpu'
            and input.layout == torch.strided
            and input.dtype in _TYPES
            and input.numel()
            and not torch._C._are_functorch_transforms_active()
        ):
            try:
                return compiled_dropout(input, self.p)
            except NotCompiledError as error:
                compiles = False  # not tried again
                print_log(
                    'dropout runs in PyTorch, as ours could not be compiled: '
                    f'{error}',
                    'current',
                )
        return stock(self, input)

    forward.stock = stock
    return forward
