"""A linear layer with an update for modules that read its weight."""

import torch.nn.functional as F
from torch import Tensor, nn

from .linear import LoRALinear


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
