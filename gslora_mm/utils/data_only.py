"""Unpickling that can do nothing but make data."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


class RefusedPickle(Exception):
    """A file wants more than data; the message names the classes."""


def load_data_only(path: str | os.PathLike) -> Any:
    """``torch.load`` to the CPU, for data only.

    Beside what torch itself takes for safe (tensors, plain Python data),
    NumPy arrays and numbers pass, parsed command lines, and the
    HistoryBuffers in the message hub of an MMEngine checkpoint. mmengine's
    own list of safe classes includes ``getattr``, with which a file reaches
    whatever it likes.

    Args:
        path (str | os.PathLike): A file written by ``torch.save``.

    Returns:
        Any: What was saved.

    Raises:
        RefusedPickle: If the file holds anything else.
        Exception: Of any kind, if it is damaged.
    """
    with torch.serialization.safe_globals(_data_only_globals()):
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except pickle.UnpicklingError as error:
            refused = _refused_globals(path, error)
            if not refused:
                raise
    raise RefusedPickle(', '.join(sorted(refused)))


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
    # Training codes keep their command line in checkpoints.
    allowed.append(argparse.Namespace)
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


def _refused_globals(
    path: str | os.PathLike, error: pickle.UnpicklingError
) -> list[str]:
    """Name what made a safe load fail; empty if the file is damaged."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not in torch's zip format, or not readable so far
        names = []
    pattern = r"(?:GLOBAL |got <class ')([\w.]+)"
    names = names or re.findall(pattern, str(error))[:1]
    if not names and zipfile.is_zipfile(path):
        names = ['a kind of pickle that cannot be checked']
    return names
