"""What runs faster on a CPU than in the stock models, all at once."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fast_attention import use_fast_attention
from .fast_dropout import use_fast_dropout


def use_fast_operators() -> None:
    """Replace operators on a CPU by ours, for the rest of the process.

    Raises:
        ConfigError: If an environment variable asks for what there is not.
    """
    use_fast_attention()
    use_fast_dropout()
    layer = nn.MultiheadAttention
    # Not its forward pass, which TorchScript reads.
    layer.__call__ = _by_rows(getattr(layer.__call__, 'stock', layer.__call__))


def _by_rows(stock: Callable[..., tuple]) -> Callable[..., tuple]:
    """Attention whose inputs are rows in memory, where it matters.

    mmcv transposes them before. For such inputs and a frozen weight PyTorch
    copies the weight for each query, which takes ten times as long as the
    whole layer on a CPU in bfloat16, and nothing to speak of in float32.
    """

    @functools.wraps(stock)
    def call(
        self, query: Tensor, key: Tensor, value: Tensor, *args, **kwargs
    ) -> tuple:
        if (
            type(query) is Tensor
            and not torch.compiler.is_compiling()
            and query.device.type == 'cpu'
            and torch.is_autocast_enabled('cpu')
        ):
            # Where two are the same tensor, they still are.
            rows = {id(x): x.contiguous() for x in (query, key, value)}
            query, key, value = (rows[id(x)] for x in (query, key, value))
        # Looked up now, as what traces modules replaces it.
        return nn.Module.__call__(self, query, key, value, *args, **kwargs)

    call.stock = stock
    return call
