"""Files that are either complete or not there.

A process killed at any moment leaves the previous version of a file, or
none. The new version is written beside it, brought to disk, and renamed
into place, which POSIX and Windows both do in one piece.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import ConfigError, SaveError

_SUFFIX = '.gslora-tmp'


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = 'wb') -> Iterator[IO]:
    """Open a file that appears under its name only once it is complete.

    Missing folders are made. A symbolic link is followed, so the file that
    it points to is replaced and the link stays.

    Args:
        path (str | os.PathLike): The file to write.
        mode (str): ``'wb'`` or ``'w'`` (UTF-8). Defaults to ``'wb'``.

    Yields:
        IO: The open temporary file, in the same folder as ``path``.

    Raises:
        SaveError: If the system refuses to write (disk full, no permission,
            ...). Whatever was under ``path`` before is still there.
    """
    if mode not in ('wb', 'w'):
        raise ValueError(f"mode must be 'wb' or 'w', got {mode!r}")
    encoding = None if 'b' in mode else 'utf-8'
    with atomic_path(path) as temporary:
        with open(temporary, mode, encoding=encoding) as f:
            yield f


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """As :func:`atomic_write`, for writers that take a path, not a file.

    Args:
        path (str | os.PathLike): The file to write.

    Yields:
        Path: A name in the same folder, to be written in the block.

    Raises:
        SaveError: As in :func:`atomic_write`.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(
        f'.{target.name}.{os.getpid()}-{secrets.token_hex(4)}' + _SUFFIX
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, 'r+b') as f:
            os.fsync(f.fileno())
        os.replace(temporary, target)
    except OSError as error:
        # An error about some other file, from inside the block, is not ours.
        if str(temporary).startswith(str(error.filename or '')):
            raise _save_error(target, error) from error
        raise
    finally:
        # Gone already when all went well.
        with contextlib.suppress(OSError):
            temporary.unlink()


def save_json(obj: Any, path: str | os.PathLike) -> None:
    """Write strict JSON: numbers that JSON lacks (NaN, inf) become null.

    Args:
        obj (Any): Dictionaries, lists, tuples, sets (written sorted),
            strings, numbers, booleans, None, paths, and arrays or tensors.
        path (str | os.PathLike): The file to write, atomically.

    Raises:
        TypeError: If ``obj`` holds something else.
        SaveError: As in :func:`atomic_write`.
    """
    text = json.dumps(_to_json(obj), indent=2, allow_nan=False)
    with atomic_write(path, 'w') as f:
        f.write(text + '\n')


def load_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Args:
        path (str | os.PathLike): The file to read.

    Returns:
        Any: What it holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it is not JSON; the message names file and line.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except ValueError as error:
        raise ConfigError(f'{path} is not valid JSON: {error}') from error


def save_torch(obj: Any, path: str | os.PathLike) -> None:
    """``torch.save``, atomically.

    Args:
        obj (Any): What to save.
        path (str | os.PathLike): The file to write.

    Raises:
        SaveError: As in :func:`atomic_write`.
    """
    import torch  # not at the top: check_env runs where torch is missing

    with atomic_write(path) as f:
        file = _FirstError(f)
        try:
            torch.save(obj, file)
        except RuntimeError:
            # torch hides a full disk behind an internal assertion.
            if file.error is None:
                raise
            raise file.error from None


def remove_leftovers(folder: str | os.PathLike) -> list[Path]:
    """Delete what writers that were killed left behind, subfolders included.

    To be called by the only process that writes into the folder, before it
    starts: the unfinished file of a running writer would be deleted as well.

    Args:
        folder (str | os.PathLike): The folder; it need not exist.

    Returns:
        list[Path]: The deleted files, sorted.
    """
    leftovers = sorted(Path(folder).rglob(f'.*{_SUFFIX}'))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


class _FirstError:
    """A file for ``torch.save`` that remembers the first failed write."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save_error(path: Path, error: OSError) -> SaveError:
    message = f'cannot save {path}: {error.strerror or error}; ' + (
        'the previous version was kept'
        if path.exists()
        else 'nothing was written'
    )
    with contextlib.suppress(OSError):
        megabytes = shutil.disk_usage(path.parent).free / 2**20
        message += f'; free space there: {megabytes:.0f} MiB'
    return SaveError(error.errno, message)


def _to_json(obj: Any) -> Any:
    if hasattr(obj, 'tolist'):  # NumPy and torch, arrays and scalars
        obj = obj.tolist()
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, dict):
        return {key: _to_json(value) for key, value in obj.items()}
    if isinstance(obj, (set, frozenset)):
        obj = sorted(obj)
    if isinstance(obj, (list, tuple)):
        return [_to_json(value) for value in obj]
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    return obj
