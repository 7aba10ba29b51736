"""Tensors in a file that holds nothing but data.

The safetensors format: reading one runs no code. Its metadata are strings by
name, which the library writes in another order every time; so they stand in
one of them, as JSON, and the same content gives the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .atomic import atomic_write
from .errors import ConfigError

#: Name of the one metadata entry.
_METADATA = 'json'


def save_tensors(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write tensors to a safetensors file, atomically.

    The same tensors and metadata give the same bytes.

    Args:
        tensors (Mapping[str, Tensor]): On any device.
        path (str | os.PathLike): File to write.
        metadata (Mapping[str, object], optional): Kept as strings.

    Raises:
        SaveError: If the file cannot be written; an older one is kept.
    """
    on_cpu = {
        key: tensor.detach().to('cpu', copy=True).contiguous()
        for key, tensor in tensors.items()
    }
    record = {key: str(value) for key, value in (metadata or {}).items()}
    record['format'] = 'pt'
    text = json.dumps(record, sort_keys=True)
    with atomic_write(path) as file:
        file.write(save(on_cpu, {_METADATA: text}))


def load_tensors(
    path: str | os.PathLike, what: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Args:
        path (str | os.PathLike): The file.
        what (str): How errors begin, for example ``'adapter a.safetensors'``.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The tensors, on the CPU,
        and the metadata.

    Raises:
        ConfigError: If there is no such file, or it is not a complete one.
    """
    if not Path(path).is_file():
        raise ConfigError(f'{what}: there is no such file')
    try:
        with safe_open(path, framework='pt') as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
        if _METADATA in metadata:  # earlier versions wrote them one by one
            metadata = json.loads(metadata[_METADATA])
    except (SafetensorError, ValueError) as error:
        raise ConfigError(
            f'{what}: not a complete safetensors file ({error})'
        ) from error
    return tensors, metadata
