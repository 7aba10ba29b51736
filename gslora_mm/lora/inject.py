"""Putting an adapter into a model, listing it, switching it off."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from gslora_mm.utils import ConfigError
from .find import find_linears, is_attention
from .layer import LoRALinear, LoRAProjection, check_settings


def inject_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 1.0,
    dropout: float = 0.0,
    target: str = 'ffn',
    exclude: Sequence[str] = (),
    within: Sequence[str] = (),
) -> list[str]:
    """Give linear layers of a model an adapter and freeze all the rest.

    The model is changed in place and computes what it did before; keys of
    its stock checkpoints stay valid. A layer that stands at several places
    gets one adapter and stays shared. Query, key and value of torch's
    ``nn.MultiheadAttention`` are one parameter (``in_proj_weight``) and no
    linear layer: of that class only ``out_proj`` is adapted.

    Initialise the model before, or within :func:`stock_layers`: the
    ``init_weights`` of mmdet's detectors would overwrite A and B.

    Args:
        model: Model to adapt.
        rank: Rank of the updates. Defaults to 8.
        alpha: Scale of the updates. Defaults to 1.0.
        dropout: Dropout on the adapters' inputs. Defaults to 0.0.
        target: 'ffn' (feed-forward networks of the Transformer blocks),
            'attention', 'all' or a regular expression that is searched in
            the names of the linear layers. Defaults to 'ffn'.
        exclude: Names of modules that get no adapter, such as 'backbone'.
            Defaults to ().
        within: Names of the modules that alone get one, such as 'decoder'.
            Defaults to (), all.

    Returns:
        list[str]: Names of the adapted layers, in the order of the modules.

    Raises:
        ConfigError: If a setting is invalid, no layer fits, the model has
            adapters already, or the weight of a layer is tied to another.
    """
    check_settings(rank, alpha, dropout)
    if lora_layers(model):
        raise ConfigError(
            'the model has LoRA adapters already: fold them in with '
            'merge_lora(model) before another injection'
        )
    exclude, within = (
        (names,) if isinstance(names, str) else tuple(names)
        for names in (exclude, within)
    )
    names = find_linears(model, target, exclude, within)
    _refuse_tied(model, names, target)

    frozen = [n for n, p in model.named_parameters() if p.requires_grad]
    model.requires_grad_(False)
    new = {}
    for name in names:
        linear = model.get_submodule(name)
        holder = model.get_submodule(name.rpartition('.')[0])
        kind = LoRAProjection if _may_read_weights(holder) else LoRALinear
        new[id(linear)] = kind.from_linear(linear, rank, alpha, dropout)
    replace_layers(model, new)
    # What merge_lora needs to leave no trace, and save_adapter to record.
    model.lora_injection = dict(target=target, frozen=frozen)
    return names


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


@contextmanager
def scaled_lora(model: nn.Module, part: float) -> Iterator[nn.Module]:
    """Within this context a part of the update counts.

    Args:
        model (nn.Module): With an adapter that is not merged.
        part (float): 0 is the stock model, 1 the adapted one.

    Yields:
        nn.Module: The model.
    """
    before = [(layer, layer.alpha) for layer in lora_layers(model).values()]
    try:
        for layer, alpha in before:
            layer.alpha = part * alpha
        yield model
    finally:
        for layer, alpha in before:
            layer.alpha = alpha


@contextmanager
def stock_layers(model: nn.Module) -> Iterator[nn.Module]:
    """Within this context the model has no adapter, and its stock classes.

    For code that goes through modules and parameters by class, such as the
    ``init_weights`` of mmdet. The layers share their weights and biases with
    the adapted ones, which are put back at the end.

    Yields:
        nn.Module: The model.
    """
    pairs = [
        (layer, layer.without_adapter())
        for layer in lora_layers(model).values()
    ]
    replace_layers(model, {id(layer): stock for layer, stock in pairs})
    try:
        yield model
    finally:
        replace_layers(model, {id(stock): layer for layer, stock in pairs})


def replace_layers(model: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Put ``new[id(module)]`` wherever that module stands in the model."""
    for holder in model.modules():
        for key, child in holder._modules.items():
            if id(child) in new:
                holder._modules[key] = new[id(child)]


def _refuse_tied(model: nn.Module, names: Sequence[str], target: str) -> None:
    owners = Counter(
        id(p) for m in model.modules() for p in m.parameters(recurse=False)
    )
    for name in names:
        if owners[id(model.get_parameter(f'{name}.weight'))] > 1:
            raise ConfigError(
                'adapter.target',
                target,
                f'the weight of {name} is tied to another module, which the '
                'update would change as well',
            )


def _may_read_weights(holder: nn.Module) -> bool:
    """Whether a module may read its layers' weights without a call."""
    return is_attention(holder) or isinstance(
        holder, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    )
