"""Putting the adapter into a model and folding it in again."""

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import nn

from gslora_mm.utils import ConfigError
from .blocks import find_linears, is_attention
from .layers import lora_layers
from .linear import LoRALinear
from .projection import LoRAProjection
from .settings import check_settings


def inject_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 1.0,
    dropout: float = 0.0,
    target: str = 'ffn',
    exclude: Sequence[str] = (),
) -> list[str]:
    """Give linear layers of a model an adapter and freeze all the rest.

    The model is changed in place and computes what it did before; keys of
    its stock checkpoints stay valid. A layer that stands at several places
    gets one adapter and stays shared. Query, key and value of torch's
    ``nn.MultiheadAttention`` are one parameter (``in_proj_weight``) and no
    linear layer: of that class only ``out_proj`` is adapted.

    Initialise the model before: the ``init_weights`` of mmdet's detectors
    would overwrite A and B.

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
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    names = find_linears(model, target, exclude)
    _refuse_tied(model, names, target)

    frozen = [n for n, p in model.named_parameters() if p.requires_grad]
    model.requires_grad_(False)
    new = {}
    for name in names:
        linear = model.get_submodule(name)
        holder = model.get_submodule(name.rpartition('.')[0])
        kind = LoRAProjection if _may_read_weights(holder) else LoRALinear
        new[id(linear)] = kind.from_linear(linear, rank, alpha, dropout)
    _replace(model, new)
    # What merge_lora needs to leave no trace, and save_adapter to record.
    model.lora_injection = dict(target=target, frozen=frozen)
    return names


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
    _replace(model, {id(layer): layer.to_linear() for layer in layers})
    for module in model.modules():
        injection = module.__dict__.pop('lora_injection', None)
        for name in injection['frozen'] if injection else ():
            module.get_parameter(name).requires_grad_(True)
    return model


def unmerge_lora(model: nn.Module) -> None:
    """Undo :meth:`LoRALinear.merge` in every layer, bit for bit."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def _refuse_tied(model: nn.Module, names: Sequence[str], target: str) -> None:
    owners = Counter(
        id(p) for m in model.modules() for p in m.parameters(recurse=False)
    )
    for name in names:
        if owners[id(model.get_parameter(f'{name}.weight'))] > 1:
            raise ConfigError(
                f'adapter.target = {target!r}: the weight of {name} is tied '
                'to another module, which the update would change as well'
            )


def _may_read_weights(holder: nn.Module) -> bool:
    """Whether a module may read its layers' weights without a call."""
    return is_attention(holder) or isinstance(
        holder, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    )


def _replace(model: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Put ``new[id(module)]`` wherever that module stands in the model."""
    for holder in model.modules():
        for key, child in holder._modules.items():
            if id(child) in new:
                holder._modules[key] = new[id(child)]
