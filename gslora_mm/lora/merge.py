"""Folding an adapter into the weights: of a model, or of a state dict."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from gslora_mm.utils import ConfigError
from .functional import merge_weight
from .inject import lora_layers, replace_layers
from .layer import MATRICES, LoRALinear


def merge_lora(model: nn.Module) -> nn.Module:
    """Fold the updates in and put the stock layers back: no trace is left.

    Parameters that :func:`inject_lora` froze are trainable again. A model
    without adapters is returned as it is.

    Returns:
        nn.Module: The model, changed in place.
    """
    if isinstance(model, LoRALinear):
        return model.to_linear()
    layers = lora_layers(model).values()
    replace_layers(model, {id(layer): layer.to_linear() for layer in layers})
    for module in model.modules():
        injection = module.__dict__.pop('lora_injection', None)
        for name in injection['frozen'] if injection else ():
            module.get_parameter(name).requires_grad_(True)
    return model


def unmerge_lora(model: nn.Module) -> None:
    """Undo :meth:`LoRALinear.merge` in every layer, bit for bit."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def adapter_state_dict(model: nn.Module) -> OrderedDict[str, Tensor]:
    """A and B of every adapted layer, with the keys of the model's own.

    A layer that stands at several places is listed under all its names, as
    it is in a state dict of the model. The tensors are detached and shared
    with the model.
    """
    return OrderedDict(
        (f'{prefix}{matrix}', getattr(layer, matrix).detach())
        for prefix, layer in _layers_by_prefix(model)
        for matrix in MATRICES
    )


def merged_state_dict(model: nn.Module) -> OrderedDict[str, Tensor]:
    """State dict of the stock model with the updates folded in.

    The model stays as it is. Tensors of what is not adapted are shared with
    it, as in any state dict.

    Returns:
        OrderedDict[str, Tensor]: The stock model's keys in their order.
    """
    state = model.state_dict()
    for prefix, layer in _layers_by_prefix(model):
        state[f'{prefix}weight'] = layer.merged_weight()
        for matrix in MATRICES:
            del state[f'{prefix}{matrix}']
    return state


def merge_adapter(
    state_dict: Mapping[str, Tensor],
    adapter: Mapping[str, Tensor],
    alpha: float,
) -> OrderedDict[str, Tensor]:
    """Fold an adapter into a stock state dict.

    Args:
        state_dict: Stock state dict, left as it is.
        adapter: As :func:`adapter_state_dict` gives it.
        alpha: Scale of the updates; their ranks show in the shapes.

    Returns:
        OrderedDict[str, Tensor]: A new state dict, equal bit for bit to
        :func:`merged_state_dict` of the adapted model.

    Raises:
        ConfigError: If the adapter does not fit the state dict.
    """
    merged = OrderedDict(state_dict)
    if hasattr(state_dict, '_metadata'):  # versions of the modules
        merged._metadata = state_dict._metadata
    problems = []
    for prefix in dict.fromkeys(key.rpartition('lora_')[0] for key in adapter):
        lora_A, lora_B = (adapter.get(f'{prefix}{m}') for m in MATRICES)
        weight = state_dict.get(f'{prefix}weight')
        if lora_A is None or lora_B is None:
            problems.append(f'{prefix}lora_A and lora_B are no pair')
        elif weight is None:
            problems.append(f'{prefix}weight is missing in the checkpoint')
        elif (
            lora_B.shape[:1] + lora_A.shape[1:] != weight.shape
            or lora_B.shape[1:] != lora_A.shape[:1]
        ):
            problems.append(
                f'{prefix}weight is {tuple(weight.shape)}, its matrices '
                f'{tuple(lora_B.shape)} and {tuple(lora_A.shape)}'
            )
        else:
            merged[f'{prefix}weight'] = merge_weight(
                weight, lora_A, lora_B, alpha / len(lora_A)
            )
    raise_problems('adapter', problems)
    return merged


def split_adapter(
    state_dict: Mapping[str, Tensor],
) -> tuple[OrderedDict[str, Tensor], OrderedDict[str, Tensor]]:
    """Take the state dict of an adapted model apart.

    Returns:
        tuple[OrderedDict[str, Tensor], OrderedDict[str, Tensor]]: The stock
        weights and the adapter, for :func:`merge_adapter`.
    """
    stock: OrderedDict[str, Tensor] = OrderedDict()
    adapter: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in state_dict.items():
        is_adapter = key.rpartition('.')[2] in MATRICES
        (adapter if is_adapter else stock)[key] = value
    return stock, adapter


def raise_problems(what: str, problems: list[str]) -> None:
    """Raise a ConfigError that counts the problems and shows the first.

    Raises:
        ConfigError: If there are any problems.
    """
    if problems:
        more = ', ...' if len(problems) > 5 else ''
        raise ConfigError(
            f'{what} does not fit, {len(problems)} problem(s): '
            f'{", ".join(problems[:5])}{more}'
        )


def _layers_by_prefix(model: nn.Module) -> list[tuple[str, LoRALinear]]:
    """Adapted layers by the prefix of their keys, at every place."""
    return [
        (f'{name}.' if name else '', module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, LoRALinear)
    ]
