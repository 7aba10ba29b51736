"""Where a model's Transformer blocks are, found from its modules.

A feed-forward network (FFN) and an attention are told by the names of their
classes and base classes, which are the same in mmcv, mmdet and mmpretrain;
none of these has to be imported. The names of the modules play no part.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from gslora_mm.utils import ConfigError, unknown_name

FFN_CLASSES = frozenset({'FFN', 'DeiT3FFN', 'MixFFN', 'SwiGLUFFN'})
# 'Atten' rather than 'Attention': XCiT has a class ClassAttntion beside XCA,
# EVA-02 an AttentionWithRoPE.
ATTENTION_CLASS = re.compile(
    r'Attention(WithRoPE)?$|Attntion$|MSA(V2)?$|^XCA$'
)
CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
TARGETS = {
    'ffn': ('ffns',),
    'attention': ('attentions',),
    'all': ('ffns', 'attentions'),
}


@dataclass(frozen=True)
class TransformerBlock:
    """A module that holds both an FFN and an attention.

    An FFN without an attention beside it is none of a Transformer block's:
    ``DETRHead.reg_ffn``, for one, belongs to the box head.

    Attributes:
        name: Module path of the block.
        ffns: Module paths of its FFNs.
        attentions: Module paths of its attentions.
    """

    name: str
    ffns: tuple[str, ...]
    attentions: tuple[str, ...]


def transformer_blocks(model: nn.Module) -> list[TransformerBlock]:
    """Find the Transformer blocks of a model, in the order of its modules.

    A block that stands at several places is listed once, by its first name.
    """
    blocks = []
    for name, module in model.named_modules():
        if is_ffn(module) or is_attention(module):
            continue
        held = list(_held_by(module, name))
        ffns = tuple(path for path, child in held if is_ffn(child))
        attentions = tuple(path for path, m in held if is_attention(m))
        if ffns and attentions and not isinstance(module, CONTAINERS):
            blocks.append(TransformerBlock(name, ffns, attentions))
    return blocks


def find_linears(
    model: nn.Module,
    target: str,
    exclude: Sequence[str] = (),
    within: Sequence[str] = (),
) -> list[str]:
    """Names of the linear layers that a target means.

    Args:
        model: Model to look through.
        target: 'ffn' (all linear layers of the FFNs of Transformer blocks),
            'attention' (those of the attentions of Transformer blocks),
            'all' (both), or a regular expression that is searched in the
            names of all linear layers.
        exclude: Modules to leave out with all they hold, by name.
        within: Modules to look into, by name; into all if there are none.

    Returns:
        list[str]: Names in the order of the modules.

    Raises:
        ConfigError: If the expression is malformed, a module does not exist
            or nothing is found.
    """
    known = dict(model.named_modules())
    for name in within:
        if name not in known:
            raise unknown_name('adapter.within', name, filter(None, known))
    linears = [n for n, m in model.named_modules() if n and is_linear(m)]
    if isinstance(target, str) and target in TARGETS:
        holders = [
            path
            for block in transformer_blocks(model)
            for part in TARGETS[target]
            for path in getattr(block, part)
        ]
        found = [name for name in linears if is_inside(name, holders)]
    else:
        try:
            pattern = re.compile(target)
        except (re.error, TypeError) as error:
            raise ConfigError(
                'adapter.target',
                target,
                f'neither one of {tuple(TARGETS)} nor a regular expression '
                f'({error})',
            ) from error
        found = [name for name in linears if pattern.search(name)]
    found = [name for name in found if not is_inside(name, exclude)]
    if within:
        found = [name for name in found if is_inside(name, within)]
    if not found:
        raise ConfigError(
            'adapter.target',
            target,
            'no linear layer fits'
            + f' within {tuple(within)}' * bool(within)
            + f', with {tuple(exclude)} left out. Linear '
            f'layers are held by: {_holder_classes(model, linears)}. Valid '
            f'are {tuple(TARGETS)} and a regular expression that is searched '
            'in the names of the layers, such as '
            f'{linears[0] if linears else "fc1"!r}',
        )
    return found


def is_linear(module: nn.Module) -> bool:
    """Whether a module computes ``W x + b`` with a W and b of its own."""
    return (
        isinstance(module, nn.Linear)
        # not those which normalise, quantise or parametrise their weight
        and (
            type(module).forward is nn.Linear.forward
            or type(module).__module__ == 'mmcv.cnn.bricks.wrappers'
        )
        and module._parameters.get('weight') is not None
    )


def is_inside(name: str, holders: Sequence[str]) -> bool:
    """Whether a module is one of ``holders`` or lies in one of them."""
    return any(not h or name == h or name.startswith(f'{h}.') for h in holders)


def is_ffn(module: nn.Module) -> bool:
    """Whether a module is a feed-forward network, by its class."""
    return any(c.__name__ in FFN_CLASSES for c in type(module).__mro__)


def is_attention(module: nn.Module) -> bool:
    return any(
        ATTENTION_CLASS.search(c.__name__) for c in type(module).__mro__
    )


def _held_by(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Children of a module, looking through lists, with their paths."""
    for key, child in module.named_children():
        path = f'{name}.{key}' if name else key
        if isinstance(child, CONTAINERS):
            yield from _held_by(child, path)
        else:
            yield path, child


def _holder_classes(model: nn.Module, linears: Sequence[str]) -> str:
    """Count the layers by the class that holds them, for a message."""
    counts: Counter[str] = Counter()
    for name in linears:
        holder: nn.Module = nn.ModuleList()
        while name and isinstance(holder, CONTAINERS):
            name = name.rpartition('.')[0]
            holder = model.get_submodule(name)
        counts[type(holder).__name__] += 1
    return ', '.join(f'{n} ({c})' for n, c in counts.items()) or 'no module'
