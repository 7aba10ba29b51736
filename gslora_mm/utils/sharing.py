"""What is read of files once, however many ask for it."""

import contextlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

Read = TypeVar('Read')

#: What has been read, within :func:`read_once`.
_read: dict[Hashable, Any] | None = None


@contextlib.contextmanager
def read_once() -> Iterator[None]:
    """Keep what :func:`shared` reads in here until the end of the outermost.

    For what reads the same files again and again in one process, as the steps
    of a sequence do.
    """
    global _read
    outer, _read = _read, {} if _read is None else _read
    try:
        yield
    finally:
        _read = outer


def shared(
    files: Sequence[str | os.PathLike],
    settings: Hashable,
    read: Callable[[], Read],
) -> Read:
    """Read files, or return what has been read of them.

    Args:
        files (Sequence): Their paths; some of them elsewhere than here are
            read every time, as nothing tells whether they have changed.
        settings (Hashable): What else the result depends on, and what it is.
        read (Callable): Reads them.

    Returns:
        Any: What ``read`` returns, to be changed by nobody.
    """
    if _read is None:
        return read()
    try:
        looks = [(os.path.abspath(f), os.stat(f)) for f in files]
    except OSError:
        return read()
    key = (
        *((path, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in looks),
        settings,
    )
    if key not in _read:
        _read[key] = read()
    return _read[key]
