"""Checkpoints, read without executing code and loaded without silence.

A checkpoint is a pickle, and unpickling may run anything. mmengine reads it
safely first but falls back to unrestricted unpickling when that fails; here
only data passes, unless the user allows more.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .atomic import save_torch
from .data_only import RefusedPickle, load_data_only
from .download import KEY, local_path
from .errors import ConfigError, config_path
from .tensor_file import load_tensors

#: What comes before the stock model's keys in those of an AdaptedModel.
STOCK_PREFIX = 'model.'
#: Flags of tools by the paths that errors of this module give them.
TOOL_FLAGS = {'allow_pickle': '--allow-pickle'}
#: Where training codes keep the weights, the first that is there counts.
#: mmengine saves the averaged ones as 'state_dict' and the others as
#: 'ema_state_dict', so that comes late.
_WEIGHTS = (
    'state_dict',
    'model',
    'model_state_dict',
    'ema_state_dict',
    'state_dict_ema',
    'model_ema',
    'ema_model',
)


def load_checkpoint(
    path_or_url: str | os.PathLike,
    allow_pickle: bool | None = False,
    key: str = KEY,
) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Tensors, NumPy arrays and numbers, plain Python data and the message hub
    of an MMEngine checkpoint are data and pass. Anything else would have to
    run code of the file's choice and is refused.

    Args:
        path_or_url (str | os.PathLike): A file, or an http(s) or file URL,
            see :func:`local_path`.
        allow_pickle (bool, optional): Unpickle whatever the file holds. Only
            for files from a source you trust. None refuses it as False does,
            where no setting could allow it. Defaults to False.
        key (str): Config key named in errors. Defaults to
            ``'forgetting.pretrained'``.

    Returns:
        dict[str, Any]: What was saved, for instance ``state_dict``, ``meta``.

    Raises:
        ConfigError: If there is no such file, if it is damaged or no
            checkpoint, or if it needs ``allow_pickle``.
    """
    path = local_path(path_or_url, key)
    refusal = functools.partial(ConfigError, key, str(path_or_url))
    if path.suffix == '.safetensors':
        return load_tensors(path, f'{key} = {str(path_or_url)!r}')[0]
    try:
        checkpoint = (
            torch.load(path, map_location='cpu', weights_only=False)
            if allow_pickle
            else load_data_only(path)
        )
    except RefusedPickle as error:
        if allow_pickle is None:
            raise refusal(
                f'holds more than data: {error}. Reading it could execute '
                'code. If you trust where the file comes from, write its '
                'weights to a file of their own with '
                'tools/model_tools/publish_model.py --allow-pickle, and name '
                'that one'
            ) from None
        raise ConfigError(
            f'{key.rpartition(".")[0]}.allow_pickle'.lstrip('.'),
            allow_pickle,
            f'{str(path_or_url)!r} holds more than data: {error}. Reading it '
            'could execute code. If you trust where the file comes from, '
            'allow it with True',
        ) from None
    except Exception as error:
        size = path.stat().st_size
        raise refusal(
            f'is no checkpoint, or is damaged ({size} bytes): '
            f'{_first_line(error)}. Valid: a complete file written by '
            'torch.save'
        ) from error
    if not isinstance(checkpoint, dict):
        raise refusal(
            f'holds a {type(checkpoint).__name__}; valid: a dictionary, such '
            "as mmengine's checkpoints or a state dict"
        )
    return checkpoint


def state_dict_of(
    checkpoint: Mapping[str, Any], key: str = KEY, entry: str | None = None
) -> OrderedDict[str, torch.Tensor]:
    """Take the model's state dict out of a checkpoint.

    Args:
        checkpoint (Mapping[str, Any]): A bare state dict, or a dictionary
            with one under ``'state_dict'`` (mmengine), ``'model'`` or
            another of the usual names.
        key (str): Config key named in errors.
        entry (str, optional): The name to take. Defaults to None: the first
            of :func:`weight_entries`.

    Returns:
        OrderedDict[str, Tensor]: A new dictionary with the same tensors.
        The prefix ``'module.'`` of a parallel wrapper is stripped, and
        torch's ``_metadata`` (versions of the modules) is kept.

    Raises:
        ConfigError: If there is no state dict in it.
    """
    found: Any = checkpoint
    for name in weight_entries(checkpoint)[:1] if entry is None else [entry]:
        found = checkpoint.get(name)
    if not _is_state_dict(found):
        shown = checkpoint if found is None else found
        raise ConfigError(
            key,
            valid='no state dict in the checkpoint. Found: '
            f'{_some(map(repr, shown)) or "nothing"}. Valid: a dictionary of '
            "tensors, or one with such a dictionary under 'state_dict' or "
            "'model'",
        )
    prefix = 'module.'
    # Averaged models of mmengine count their updates beside the weights.
    names = [name for name in found if name != 'steps']
    is_wrapped = all(name.startswith(prefix) for name in names)
    names = names if is_wrapped else list(found)
    strip = len(prefix) * is_wrapped
    state_dict = OrderedDict((name[strip:], found[name]) for name in names)
    metadata = getattr(found, '_metadata', None)
    if metadata is not None:
        state_dict._metadata = OrderedDict(
            (name[strip:], value)
            for name, value in metadata.items()
            if not strip or name != ''
        )
    return state_dict


def weight_entries(checkpoint: Mapping[str, Any]) -> list[str]:
    """List the entries of a checkpoint that hold weights, by preference.

    Args:
        checkpoint (Mapping[str, Any]): The checkpoint.

    Returns:
        list[str]: Their names, [] for a bare state dict.
    """
    return [
        name for name in _WEIGHTS if isinstance(checkpoint.get(name), Mapping)
    ]


def _is_state_dict(found: Any) -> bool:
    return bool(
        isinstance(found, Mapping)
        and found
        and all(isinstance(value, torch.Tensor) for value in found.values())
    )


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
        # A model may have a check of its own, as an AdaptedModel has.
        with config_path(context=key):
            model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        mismatched = find_size_mismatches(str(error))
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
        lines = [
            f'\n  {len(names)} {kind}: {_some(names)}'
            for kind, names in problems.items()
            if names
        ]
        raise ConfigError(
            key,
            valid='the checkpoint does not fit the model.' + ''.join(lines),
        )


def save_stock_checkpoint(
    model: nn.Module | Mapping[str, torch.Tensor],
    metainfo: Mapping,
    path: str | os.PathLike,
) -> None:
    """Save a model as a checkpoint of mmdet or mmpretrain, nothing else.

    Args:
        model (nn.Module | Mapping[str, Tensor]): The stock model, adapter
            merged, or its state dict.
        metainfo (Mapping): Of the dataset; classes and palette are kept, which
            the inference APIs of both libraries read.
        path (str | os.PathLike): The file to write, atomically.
    """
    dataset_meta = {
        key: metainfo[key] for key in ('classes', 'palette') if key in metainfo
    }
    weights = model.state_dict() if isinstance(model, nn.Module) else model
    state_dict = {k: v.cpu() for k, v in weights.items()}
    save_torch(
        {'meta': {'dataset_meta': dataset_meta}, 'state_dict': state_dict},
        path,
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


_SHAPE = r'torch\.Size\((\[[\d, ]*\])\)'
_SIZE_MISMATCH = re.compile(f'size mismatch for (.+?): .*?{_SHAPE}.*?{_SHAPE}')


def find_size_mismatches(message: str) -> list[tuple[str, str, str]]:
    """Read the mismatched keys out of an error of ``load_state_dict``.

    Args:
        message (str): Its message, a line per key.

    Returns:
        list[tuple[str, str, str]]: Key, shape in the checkpoint and shape in
        the model.
    """
    return _SIZE_MISMATCH.findall(message)


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ', '.join(names[:most]) + ', ...' * (len(names) > most)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
