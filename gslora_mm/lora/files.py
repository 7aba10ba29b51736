"""Files of adapters.

An adapter file holds ``lora_A`` and ``lora_B`` of every adapted layer, under
the layer's name, in the safetensors format: reading one runs no code. Its
metadata record rank, alpha, dropout and target, so that it can be folded
into a stock checkpoint without building the model.
"""

import functools
import os
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from gslora_mm.utils import ConfigError
from gslora_mm.utils.tensor_file import load_tensors, save_tensors
from .inject import lora_layers
from .merge import adapter_state_dict, raise_problems


class IncompatibleKeys(NamedTuple):
    """Keys that :func:`load_adapter` found no counterpart for."""

    missing: list[str]
    unexpected: list[str]


def save_adapter(
    model: nn.Module,
    path: str | os.PathLike,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write the adapter of a model to a safetensors file, atomically.

    The same adapter and metadata give the same bytes.

    Args:
        model: Adapted model.
        path: File to write.
        metadata: More to record, kept as strings, beside the settings
            ``rank``, ``alpha``, ``dropout`` and ``target``.

    Raises:
        ConfigError: If the model has no adapter, or its layers differ in
            their settings.
        SaveError: If the file cannot be written; an older one is kept.
    """
    save_tensors(
        adapter_state_dict(model),
        path,
        {**(metadata or {}), **adapter_settings(model)},
    )


def read_adapter(
    path: str | os.PathLike,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read an adapter file.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The matrices, on the CPU,
        and the metadata.

    Raises:
        ConfigError: If there is no such file, or it is no adapter's.
    """
    tensors, metadata = load_tensors(path, f'adapter {path}')
    if 'alpha' not in metadata:
        raise ConfigError(
            f'adapter {path}',
            valid=f'not written by save_adapter, its metadata {metadata} '
            'name no alpha',
        )
    return tensors, metadata


def load_adapter(
    model: nn.Module, path: str | os.PathLike, strict: bool = True
) -> IncompatibleKeys:
    """Load an adapter file into a model that :func:`inject_lora` adapted.

    Nothing is loaded when anything is wrong.

    Args:
        model: Adapted model.
        path: File that :func:`save_adapter` wrote.
        strict: Whether every key must have its counterpart. Defaults to
            True.

    Returns:
        IncompatibleKeys: Missing and unexpected keys, empty if ``strict``.

    Raises:
        ConfigError: If the file is not a proper one, the model has no
            adapter or is merged, alpha or a shape differs, or keys differ
            and ``strict`` is True.
    """
    loaded, metadata = read_adapter(path)
    own = adapter_state_dict(model)
    refusal = functools.partial(ConfigError, f'adapter {path}')
    if not own:
        raise refusal(
            valid='the model has no adapter to load it into; inject_lora '
            f'first, the file was made with {metadata}',
        )
    if any(layer.merged for layer in lora_layers(model).values()):
        raise refusal(valid='the model is merged; unmerge_lora first')
    alphas = {layer.alpha for layer in lora_layers(model).values()}
    if alphas != {float(metadata['alpha'])}:
        raise refusal(
            valid=f'alpha is {sorted(alphas)} in the model, '
            f'{metadata["alpha"]} in the file',
        )
    missing = [key for key in own if key not in loaded]
    unexpected = [key for key in loaded if key not in own]
    problems = [
        f'{key} is {tuple(tensor.shape)} in the file, '
        f'{tuple(own[key].shape)} in the model'
        for key, tensor in loaded.items()
        if key in own and tensor.shape != own[key].shape
    ]
    if strict:
        problems += [f'{key} is missing in the file' for key in missing]
        problems += [f'{key} is not in the model' for key in unexpected]
    raise_problems(f'adapter {path}', problems)
    for key in own.keys() & loaded.keys():
        own[key].copy_(loaded[key])
    return IncompatibleKeys(missing, unexpected)


def adapter_settings(model: nn.Module) -> dict[str, object]:
    """Settings that all adapted layers share, and the target.

    Raises:
        ConfigError: If there is no adapted layer or their settings differ.
    """
    settings = {
        (layer.rank, layer.alpha, layer.dropout)
        for layer in lora_layers(model).values()
    }
    if len(settings) != 1:
        raise ConfigError(
            'adapter',
            valid='one rank, alpha and dropout for all layers expected, '
            f'found {sorted(settings) or "no adapted layer"}',
        )
    ((rank, alpha, dropout),) = settings
    target = next(
        (
            module.lora_injection['target']
            for module in model.modules()
            if 'lora_injection' in module.__dict__
        ),
        'unknown',
    )
    return dict(rank=rank, alpha=alpha, dropout=dropout, target=target)
