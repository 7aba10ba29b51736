"""Checkpoints, read without executing code and loaded without silence.

A checkpoint is a pickle, and unpickling may run anything. mmengine reads it
safely first but falls back to unrestricted unpickling when that fails; here
only data passes, unless the user allows more.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import re
import shutil
import urllib.parse
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import nn

from .atomic import atomic_write
from .errors import ConfigError, SaveError

KEY = 'forgetting.pretrained'


def load_checkpoint(
    path_or_url: str | os.PathLike,
    allow_pickle: bool = False,
    key: str = KEY,
) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Tensors, NumPy arrays and numbers, plain Python data and the message hub
    of an MMEngine checkpoint are data and pass. Anything else would have to
    run code of the file's choice and is refused.

    Args:
        path_or_url (str | os.PathLike): A file, or an http(s) or file URL,
            see :func:`local_path`.
        allow_pickle (bool): Unpickle whatever the file holds. Only for files
            from a source you trust. Defaults to False.
        key (str): Config key named in errors. Defaults to
            ``'forgetting.pretrained'``.

    Returns:
        dict[str, Any]: What was saved, for instance ``state_dict``, ``meta``.

    Raises:
        ConfigError: If there is no such file, if it is damaged or no
            checkpoint, or if it needs ``allow_pickle``.
    """
    path = local_path(path_or_url, key)
    where = f'{key}={str(path_or_url)!r}'
    try:
        with torch.serialization.safe_globals(_data_only_globals()):
            checkpoint = torch.load(
                path, map_location='cpu', weights_only=not allow_pickle
            )
    except Exception as error:
        refused = None if allow_pickle else _refused_globals(path, error)
        if refused:
            allow = f'{key.rpartition(".")[0]}.allow_pickle'.lstrip('.')
            raise ConfigError(
                f'{where} holds more than data: {", ".join(refused)}. '
                'Reading it could execute code. If you trust where the file '
                f'comes from, allow it with {allow}=True'
            ) from None
        size = path.stat().st_size
        raise ConfigError(
            f'{where} is no checkpoint, or is damaged ({size} bytes): '
            f'{_first_line(error)}. Valid: a complete file written by '
            'torch.save'
        ) from error
    if not isinstance(checkpoint, dict):
        raise ConfigError(
            f'{where} holds a {type(checkpoint).__name__}; valid: a '
            "dictionary, such as mmengine's checkpoints or a state dict"
        )
    return checkpoint


def local_path(path_or_url: str | os.PathLike, key: str = KEY) -> Path:
    """Find the local file of a checkpoint; download it at first use.

    Downloads go to torch.hub's folder for checkpoints and are complete or
    not there. A file whose name lacks a hash of its content goes to a
    subfolder named by its address: ``epoch_12.pth`` is a common name.

    Args:
        path_or_url (str | os.PathLike): A file, or an http(s) or file URL.
        key (str): Config key named in errors.

    Returns:
        Path: An existing file.

    Raises:
        ConfigError: If there is no such file or it cannot be downloaded.
        SaveError: If the download cannot be stored.
    """
    where = f'{key}={str(path_or_url)!r}'
    path = Path(path_or_url).expanduser()
    url = urllib.parse.urlsplit(str(path_or_url))
    if '://' in str(path_or_url):
        path = Path(urllib.parse.unquote(url.path))
    if url.scheme in ('http', 'https') and path.name:
        folder = Path(torch.hub.get_dir(), 'checkpoints')
        if not re.search(r'-[0-9a-f]{8,}\.', path.name):
            address = str(path_or_url).encode()
            folder /= hashlib.sha256(address).hexdigest()[:8]
        path = folder / path.name
        if not path.is_file():
            _download(str(path_or_url), path, where)
    elif '://' in str(path_or_url) and url.scheme != 'file':
        raise ConfigError(
            f'{where} is no address of a file. Valid: a path, or an address '
            'that begins with http://, https:// or file://'
        )
    if path.is_dir():
        raise ConfigError(
            f'{where} is a folder. Valid: a checkpoint file, for example '
            f'{path / "epoch_12.pth"}'
        )
    if not path.exists():
        raise ConfigError(
            f'{where}: no such file ({path.absolute()}). Valid: a path or an '
            'http(s) address of a checkpoint'
        )
    return path


def state_dict_of(
    checkpoint: Mapping[str, Any], key: str = KEY
) -> OrderedDict[str, torch.Tensor]:
    """Take the model's state dict out of a checkpoint.

    Args:
        checkpoint (Mapping[str, Any]): A bare state dict, or a dictionary
            with one under ``'state_dict'`` (mmengine) or ``'model'``.
        key (str): Config key named in errors.

    Returns:
        OrderedDict[str, Tensor]: A new dictionary with the same tensors.
        The prefix ``'module.'`` of a parallel wrapper is stripped, and
        torch's ``_metadata`` (versions of the modules) is kept.

    Raises:
        ConfigError: If there is no state dict in it.
    """
    found: Any = checkpoint
    for name in ('state_dict', 'model'):
        if isinstance(checkpoint.get(name), Mapping):
            found = checkpoint[name]
            break
    if not found or not all(
        isinstance(value, torch.Tensor) for value in found.values()
    ):
        raise ConfigError(
            f'{key}: no state dict in the checkpoint. Found: '
            f'{_some(map(repr, found)) or "nothing"}. Valid: a dictionary of '
            "tensors, or one with such a dictionary under 'state_dict' or "
            "'model'"
        )
    prefix = 'module.'
    strip = len(prefix) * all(name.startswith(prefix) for name in found)
    state_dict = OrderedDict(
        (name[strip:], value) for name, value in found.items()
    )
    metadata = getattr(found, '_metadata', None)
    if metadata is not None:
        state_dict._metadata = OrderedDict(
            (name[strip:], value)
            for name, value in metadata.items()
            if not strip or name != ''
        )
    return state_dict


def load_state_dict_strictly(
    model: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    key: str = KEY,
    ignore: Iterable[str] = (),
) -> None:
    """Load a state dict that has to fit, and say precisely where it does not.

    Args:
        model (nn.Module): The model to fill. If an error is raised it may be
            partly filled and must not be used.
        state_dict (Mapping[str, Tensor]): The weights.
        key (str): Config key named in errors.
        ignore (Iterable[str]): Prefixes of names that need not fit: entries
            of the state dict so named are not loaded, and parameters and
            buffers so named keep their values. Defaults to ().

    Raises:
        ConfigError: With the number and the first of the missing, the
            unexpected and the mismatched keys.
    """
    ignore = tuple(ignore)
    metadata = getattr(state_dict, '_metadata', None)
    state_dict = OrderedDict(
        (name, value)
        for name, value in state_dict.items()
        if not name.startswith(ignore)
    )
    if metadata is not None:
        state_dict._metadata = metadata
    missing: list[str] = []
    unexpected: list[str] = []

    def collect(_: nn.Module, incompatible: Any) -> None:
        # torch reports shapes by raising, which would lose these two lists.
        missing.extend(incompatible.missing_keys)
        unexpected.extend(incompatible.unexpected_keys)

    mismatched: list[tuple[str, str, str]] = []
    hook = model.register_load_state_dict_post_hook(collect)
    try:
        model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        mismatched = _SIZE_MISMATCH.findall(str(error))
        if not mismatched:
            raise
    finally:
        hook.remove()
    problems = {
        'missing': [k for k in missing if not k.startswith(ignore)],
        'unexpected': unexpected,
        'of another shape': [
            f'{name} ({found} instead of {expected})'
            for name, found, expected in mismatched
        ],
    }
    if any(problems.values()):
        raise ConfigError(
            f'{key}: the checkpoint does not fit the model.'
            + ''.join(
                f'\n  {len(names)} {kind}: {_some(names)}'
                for kind, names in problems.items()
                if names
            )
        )


def sha256_of(path: str | os.PathLike) -> str:
    """Hash a file.

    Args:
        path (str | os.PathLike): The file.

    Returns:
        str: Its SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while block := f.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _data_only_globals() -> list[Any]:
    """List what a checkpoint may refer to beside torch's own safe classes."""
    core = np._core if hasattr(np, '_core') else np.core
    allowed: list[Any] = [slice, np.ndarray, np.dtype]
    # Arrays of objects (O) and structured ones (V) are no weights.
    codes = set(np.typecodes['All']) - set('OV')
    allowed += {type(np.dtype(code)) for code in codes}
    for package in ('numpy.core', 'numpy._core'):
        for name in ('_reconstruct', 'scalar'):
            function = getattr(core.multiarray, name)
            allowed.append((function, f'{package}.multiarray.{name}'))
    allowed += [HistoryBuffer, (_method_by_name, 'builtins.getattr')]
    return allowed


def _method_by_name(owner: Any, name: str) -> Callable:
    """Stand in for ``getattr``, which no file may call freely.

    mmengine's message hub keeps HistoryBuffers, and those pickle a table of
    their own methods in this way.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError('GLOBAL builtins.getattr is restricted')


def _refused_globals(path: Path, error: Exception) -> list[str]:
    """Name what made a safe load fail; empty if the file is damaged."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        with torch.serialization.safe_globals(_data_only_globals()):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not in torch's zip format, or not readable so far
        names = []
    names = names or re.findall(r'GLOBAL (\S+)', str(error))[:1]
    if not names and zipfile.is_zipfile(path):
        names = ['a kind of pickle that cannot be checked']
    return sorted(names)


def _download(url: str, path: Path, where: str) -> None:
    print_log(f'Downloading {url} to {path}', logger='current')
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            with atomic_write(path) as f:
                shutil.copyfileobj(response, f, 2**20)
                length = response.headers.get('Content-Length')
                if length is not None and f.tell() != int(length):
                    raise http.client.IncompleteRead(
                        b'', int(length) - f.tell()
                    )
    except SaveError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f'{where}: cannot be downloaded: {error}. Valid: an address that '
            'can be reached, or the path of a file fetched by other means'
        ) from error


_SHAPE = r'torch\.Size\((\[[\d, ]*\])\)'
_SIZE_MISMATCH = re.compile(f'size mismatch for (.+?): .*?{_SHAPE}.*?{_SHAPE}')


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ', '.join(names[:most]) + ', ...' * (len(names) > most)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
