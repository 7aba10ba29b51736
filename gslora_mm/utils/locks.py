"""Locks of files."""

import contextlib
import os
from contextlib import AbstractContextManager

from filelock import FileLock, Timeout


def lock_file(
    path: str | os.PathLike, blocking: bool = False
) -> AbstractContextManager:
    """Lock a file, where the file system has locks.

    Some network file systems have none (``ENOLCK``, ``ENOTSUP``): nothing is
    locked there, since a run without a lock is better than none.

    Args:
        path (str | os.PathLike): The file; it is made if it is not there.
        blocking (bool): Wait until it is free. Defaults to False.

    Returns:
        AbstractContextManager: Unlocks the file at its end.

    Raises:
        Timeout: If the file is locked, and ``blocking`` is False.
        PermissionError: If the file cannot be made.
    """
    try:
        return FileLock(path).acquire(blocking=blocking)
    except (Timeout, PermissionError):
        raise
    except (OSError, NotImplementedError):
        return contextlib.nullcontext()
