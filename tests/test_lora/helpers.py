"""Shared by the tests of the adapter."""

import torch
from mmcv.cnn.bricks.transformer import FFN, MultiheadAttention
from torch import Tensor, nn

from gslora_mm.lora import LoRALinear, lora_layers


class Block(nn.Module):
    """A Transformer block made of mmcv's bricks."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = MultiheadAttention(16, 2, batch_first=True)
        self.ffn = FFN(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(self.attn(x))


class Toy(nn.Module):
    """Two blocks and a head whose FFN is none of a Transformer block's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.box_ffn = FFN(16, 16)
        self.fc_cls = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc_cls(self.box_ffn(x))


def perturb(model: nn.Module, seed: int = 1, std: float = 0.5) -> nn.Module:
    """Give every adapter an update, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(model).values():
        with torch.no_grad():
            layer.lora_B.normal_(0, std, generator=generator)
    return model


def make_layer(
    cls: type[LoRALinear] = LoRALinear, **settings: float
) -> LoRALinear:
    """A layer of 6 -> 4 with an update that is not zero."""
    torch.manual_seed(0)
    layer = cls.from_linear(
        nn.Linear(6, 4), **{'rank': 3, 'alpha': 2.0, **settings}
    )
    nn.init.normal_(layer.lora_B)
    return layer


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal up to rounding.

    Torch's attention takes another kernel where gradients are wanted, which
    rounds otherwise on some processors: a frozen and a trainable model with
    the same weights need not agree to the bit.
    """
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
