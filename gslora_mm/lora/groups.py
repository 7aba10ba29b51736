"""Groups of the adapter's parameters: what the sparsity loss selects.

Source: Zhao et al., "Continual Forgetting for Pre-trained Vision Models",
CVPR 2024, arXiv 2403.11530: one group per Transformer block by default, one
per LoRA and one per matrix as ablations.
"""

import math
from collections.abc import Iterable
from typing import TypedDict

import torch
from torch import nn

from gslora_mm.utils import ConfigError
from .find import is_inside, transformer_blocks
from .inject import lora_layers
from .layer import MATRICES, LoRALinear

GROUPINGS = ('block', 'lora', 'matrix')


class GroupNorms(TypedDict):
    """Sizes of one group: see :func:`group_norms`."""

    norm: float
    update_norm: float
    active: bool


def lora_groups(
    model: nn.Module, group_by: str = 'block'
) -> dict[str, list[nn.Parameter]]:
    """Group the adapter's parameters.

    Args:
        model: Adapted model.
        group_by: 'block' (A and B of all adapted layers of a Transformer
            block), 'lora' (A and B of a layer) or 'matrix' (each A and B).
            Defaults to 'block'.

    Returns:
        dict[str, list[nn.Parameter]]: Groups by name, in the order of the
        modules. A block's group bears the name of its FFN when nothing else
        in the block is adapted, else that of the block. An adapted layer
        outside all blocks is a group of its own.

    Raises:
        ConfigError: If ``group_by`` is unknown.
    """
    return {
        group: [getattr(layer, matrix) for layer, matrix in members]
        for group, members in _members(model, group_by).items()
    }


@torch.no_grad()
def group_norms(
    model: nn.Module, group_by: str = 'block'
) -> dict[str, GroupNorms]:
    """Measure the groups of :func:`lora_groups`.

    Returns:
        dict[str, GroupNorms]: Per group ``norm``, the l2 norm of all its
        entries; ``update_norm``, the Frobenius norm of the updates
        ``(alpha / rank) B A`` of the layers it belongs to; ``active``,
        False if all entries are exactly zero.
    """
    norms: dict[str, GroupNorms] = {}
    for group, members in _members(model, group_by).items():
        matrices = [getattr(layer, matrix) for layer, matrix in members]
        layers = {id(layer): layer for layer, _ in members}.values()
        norms[group] = dict(
            norm=_root(m.double().square().sum().item() for m in matrices),
            update_norm=_root(_squared_update(layer) for layer in layers),
            active=any(bool(matrix.any()) for matrix in matrices),
        )
    return norms


def _members(
    model: nn.Module, group_by: str
) -> dict[str, list[tuple[LoRALinear, str]]]:
    """Groups as pairs of a layer and the name of its matrix."""
    if group_by not in GROUPINGS:
        raise ConfigError(
            'adapter.group_by', group_by, f'it must be one of {GROUPINGS}'
        )
    layers = lora_layers(model)
    groups: dict[str, list[tuple[LoRALinear, str]]] = {}
    names = _block_groups(model, list(layers)) if group_by == 'block' else {}
    for name, layer in layers.items():
        for matrix in MATRICES:
            group = names.get(name, name)
            if group_by == 'matrix':
                group = f'{name}.{matrix}'
            groups.setdefault(group, []).append((layer, matrix))
    return groups


def _block_groups(model: nn.Module, layers: list[str]) -> dict[str, str]:
    """Map the names of adapted layers to those of their blocks' groups."""
    groups = {}
    # outer blocks come first, so that a nested one has the last word
    for block in transformer_blocks(model):
        inside = [n for n in layers if is_inside(n, (block.name,))]
        for ffn in block.ffns:
            if all(is_inside(name, (ffn,)) for name in inside):
                groups.update(dict.fromkeys(inside, ffn))
                break
        else:
            groups.update(dict.fromkeys(inside, block.name))
    return groups


def _squared_update(layer: LoRALinear) -> float:
    """Squared Frobenius norm of a layer's update, without forming it."""
    lora_A, lora_B = layer.lora_A.double(), layer.lora_B.double()
    # ||B A||^2 = trace(A^T B^T B A) = <B^T B, A A^T>, both (rank, rank)
    inner = (lora_B.t() @ lora_B * (lora_A @ lora_A.t())).sum().item()
    return layer.scaling**2 * max(inner, 0.0)


def _root(squares: Iterable[float]) -> float:
    return math.sqrt(sum(squares))
