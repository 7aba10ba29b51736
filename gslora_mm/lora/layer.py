"""Linear layers with a low-rank update.

::

    x --+--> W, b (frozen) ----------------------+--> y
        |                                        |
        +--> dropout --> A --> B --> alpha/rank -+
                (in -> rank) (rank -> out)

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
arXiv 2106.09685, section 4.1.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gslora_mm.utils import ConfigError
from .functional import LowRankLinear, merge_weight

#: Names of an adapted layer's matrices A and B.
MATRICES = ('lora_A', 'lora_B')


class LoRALinear(nn.Linear):
    """``y = W x + b + (alpha / rank) B A dropout(x)``, W and b frozen.

    The layer *is* an ``nn.Linear`` and owns ``weight`` and ``bias``, so the
    keys of stock checkpoints stay valid; it only adds ``lora_A`` and
    ``lora_B``. A is drawn Kaiming-uniform and B is 0: a new adapter changes
    nothing. The update is never materialised as an (out, in) matrix in
    :meth:`forward`; it costs ``rank * (in + out)`` multiplications a token.

    A state dict always holds the stock weight and the adapter apart, also
    while the layer is merged, so that a loaded one is never counted twice.

    Attributes:
        lora_A (nn.Parameter): (rank, in_features).
        lora_B (nn.Parameter): (out_features, rank).
        rank (int): Rank of the update.
        alpha (float): Scale of the update, before the division by the rank.
        dropout (float): Share of the adapter's inputs dropped in training.
        enabled (bool): False computes the stock layer.
        stock_class (type): Class that :meth:`to_linear` gives back.

    Args:
        in_features: Size of an input.
        out_features: Size of an output.
        bias: Whether the layer has a bias. Defaults to True.
        rank: Rank of the update. Defaults to 8.
        alpha: Scale of the update. Defaults to 1.0.
        dropout: Dropout probability on the adapter's input. Defaults to 0.0.
        device: Where the parameters live. Defaults to None.
        dtype: Type of the parameters. Defaults to None.

    Raises:
        ConfigError: See :func:`check_settings`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rank: int = 8,
        alpha: float = 1.0,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_settings(rank, alpha, dropout)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.stock_class = nn.Linear
        self._add_adapter(rank, alpha, dropout)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        rank: int = 8,
        alpha: float = 1.0,
        dropout: float = 0.0,
    ) -> 'LoRALinear':
        """Adapt an existing layer.

        The new layer shares the parameter objects, the hooks and the mode
        (training or not) of ``linear``, which itself stays a stock layer.

        Args:
            linear: Stock layer, any subclass of ``nn.Linear``.
            rank: Rank of the update. Defaults to 8.
            alpha: Scale of the update. Defaults to 1.0.
            dropout: Dropout on the adapter's input. Defaults to 0.0.

        Returns:
            LoRALinear: The adapted layer.
        """
        check_settings(rank, alpha, dropout)
        if isinstance(linear, LoRALinear):
            raise ConfigError('this layer has an adapter already')
        layer = cls.__new__(cls)
        layer.__dict__.update(linear.__dict__)
        layer._parameters = dict(linear._parameters)
        layer.stock_class = type(linear)
        layer._add_adapter(rank, alpha, dropout)
        return layer

    def to_linear(self) -> nn.Linear:
        """Fold the update in and give back a stock layer of the old class.

        Parameters, hooks and mode are shared with this layer, which is not
        to be used any more.
        """
        self.merge()
        return self.without_adapter()

    def without_adapter(self) -> nn.Linear:
        """A stock layer of the old class with the parameters of this one."""
        linear = self.stock_class.__new__(self.stock_class)
        own = ('rank', 'alpha', 'dropout', 'enabled', 'stock_class', '_stock')
        linear.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in own}
        )
        linear._parameters = {
            k: v for k, v in self._parameters.items() if k not in MATRICES
        }
        return linear

    def _add_adapter(self, rank: int, alpha: float, dropout: float) -> None:
        smaller = min(self.in_features, self.out_features)
        if rank > smaller:
            warnings.warn(
                f'adapter.rank = {rank} is above the rank {smaller} that a '
                f'{self.in_features} x {self.out_features} layer can have',
                stacklevel=3,
            )
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.enabled = True
        self._stock: Tensor | None = None  # the stock weight while merged
        weight = self._parameters['weight']
        self.lora_A = nn.Parameter(weight.new_empty(rank, self.in_features))
        self.lora_B = nn.Parameter(weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        for parameter in (weight, self.bias):
            if parameter is not None:
                parameter.requires_grad_(False)

    @property
    def scaling(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @property
    def merged(self) -> bool:
        """Whether ``weight`` holds the update at present."""
        return self._stock is not None

    @property
    def stock_weight(self) -> Tensor:
        """The weight without the update, (out, in), merged or not."""
        if self._stock is None:
            return self._parameters['weight']
        return self._stock

    def delta_weight(self) -> Tensor:
        """The update ``(alpha / rank) B A``, (out, in), with gradient."""
        return self.scaling * (self.lora_B @ self.lora_A)

    def merged_weight(self) -> Tensor:
        """The weight with the update folded in, a new tensor (out, in)."""
        return merge_weight(
            self.stock_weight, self.lora_A, self.lora_B, self.scaling
        )

    def merge(self) -> None:
        """Fold the update into ``weight``; does nothing when it is there.

        The stock weight is kept aside for :meth:`unmerge`. A merged layer
        does not follow later changes of ``lora_A`` and ``lora_B``.
        """
        if not self.merged:
            weight = self._parameters['weight'].data
            stock, merged = weight.clone(), self.merged_weight()
            weight.copy_(merged)
            self._stock = stock

    def unmerge(self) -> None:
        """Put the stock weight back, bit for bit."""
        if self._stock is not None:
            self._parameters['weight'].data.copy_(self._stock)
            self._stock = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer for ``x`` of shape (..., in_features)."""
        if not self.enabled:
            return F.linear(x, self.stock_weight, self.bias)
        if self.merged:
            return F.linear(x, self._parameters['weight'], self.bias)
        flat = x.reshape(-1, self.in_features)
        tensors = (
            flat,
            self._parameters['weight'],
            self.bias,
            self.lora_A,
            self.lora_B,
        )
        kind = flat.device.type
        if torch.is_autocast_enabled(kind) and flat.dtype != torch.double:
            # Here, because autocast leaves a Function's backward alone.
            dtype = torch.get_autocast_dtype(kind)
            tensors = [t if t is None else t.to(dtype) for t in tensors]
        flat, weight, bias, lora_A, lora_B = tensors
        drops = self.training and self.dropout > 0
        thawed = weight.requires_grad or (
            bias is not None and bias.requires_grad
        )
        if drops or thawed:
            # What the function below has no gradients for.
            out = F.linear(flat, weight, bias)
            hidden = F.linear(F.dropout(flat, self.dropout, drops), lora_A)
            out.addmm_(hidden, lora_B.t(), alpha=self.scaling)
        else:
            out, _ = LowRankLinear.apply(
                flat, weight, bias, lora_A, lora_B, self.scaling
            )
        # Not a view for autograd: the in-place activation of an FFN on a view
        # would copy the whole gradient once more. ``out`` ends here, so that
        # nothing else sees the shared memory.
        return torch.ops.aten._unsafe_view(
            out, (*x.shape[:-1], self.out_features)
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> Any:
        if self._stock is not None:  # moves with the parameters
            self._stock = fn(self._stock)
        return super()._apply(fn, *args)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.merged:
            destination[f'{prefix}weight'] = self.stock_weight

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.unmerge()
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
        return (
            f'{super().extra_repr()}, rank={self.rank}, alpha={self.alpha}, '
            f'dropout={self.dropout}'
        )


class LoRAProjection(LoRALinear):
    """A :class:`LoRALinear` whose weight may be read instead of called.

    Some attention modules never call their projections but read their
    ``weight`` (torch's ``nn.MultiheadAttention``: ``out_proj``; mmpretrain's
    ``BEiTAttention``: ``qkv``). Here the attribute ``weight`` gives the
    weight in effect, ``W + (alpha / rank) B A`` while the adapter is enabled
    and W otherwise, with gradient to A and B. The state dict and
    ``parameters()`` hold the stock parameter under the same name as ever.

    The input is not seen by a reader, so its dropout becomes one mask over
    the input features for each reading, shared by all tokens.
    """

    @property
    def weight(self) -> Tensor:
        """The weight in effect, (out, in)."""
        if self._parameters.get('lora_B') is None:  # under construction
            return nn.Module.__getattr__(self, 'weight')
        if not self.enabled:
            return self.stock_weight
        if self.merged:
            return self._parameters['weight']
        weight = self._parameters['weight']
        lora_A = self.lora_A
        if self.training and self.dropout:
            lora_A = lora_A * F.dropout(
                lora_A.new_ones(self.in_features), self.dropout
            )
        return weight + (self.scaling * (self.lora_B @ lora_A)).to(
            weight.dtype
        )


def check_settings(rank: int, alpha: float, dropout: float) -> None:
    """Refuse settings that no adapter can have.

    Raises:
        ConfigError: If ``rank`` is not an integer >= 1, ``alpha`` not a
            number > 0 or ``dropout`` outside [0, 1).
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ConfigError(
            'adapter.rank', rank, 'it must be an integer of at least 1'
        )
    if not _is_number(alpha) or not 0 < alpha < math.inf:
        raise ConfigError(
            'adapter.alpha', alpha, 'it must be a number above 0'
        )
    if not _is_number(dropout) or not 0 <= dropout < 1:
        raise ConfigError(
            'adapter.dropout', dropout, 'it must be at least 0 and below 1'
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
