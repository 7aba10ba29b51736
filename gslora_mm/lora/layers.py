"""The adapted layers of a model: listing, counting, switching off."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .linear import LoRALinear


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Adapted layers by name, in the order of the modules, each once."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LoRALinear)
    }


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """``lora_A`` and ``lora_B`` of every adapted layer, for an optimizer."""
    return [
        parameter
        for layer in lora_layers(model).values()
        for parameter in (layer.lora_A, layer.lora_B)
    ]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of trainable parameters, and of all with the adapter's."""
    parameters = list(model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)


@contextmanager
def disable_lora(model: nn.Module) -> Iterator[nn.Module]:
    """Within this context the model computes what its stock model does.

    Merged layers included. The state found is put back at the end, also
    after an exception, so that contexts can be nested. With the adapter off
    an adapted model is its own frozen teacher.

    Yields:
        nn.Module: The model.
    """
    before = [(layer, layer.enabled) for layer in lora_layers(model).values()]
    try:
        for layer, _ in before:
            layer.enabled = False
        yield model
    finally:
        for layer, enabled in before:
            layer.enabled = enabled
