"""Tensors by key, in memory or in a file, up to a limit."""

import errno
import mmap
import tempfile
from collections.abc import Hashable, Sequence
from os import PathLike

import torch
from torch import Tensor

#: Where a tensor may begin in a file.
_ALIGNMENT = 64


class TensorStore:
    """Tensors that are written once and read often.

    A file has no name: when it is closed, or the process dies, it is gone.

    Args:
        limit (int): Most bytes that are kept; fewer if the disk is full.
        folder (PathLike | str, optional): Where to put a file, which is read
            through a memory map. Defaults to None: in memory, pinned where
            there is a GPU.

    Attributes:
        size (int): Bytes of all that is kept.
    """

    def __init__(
        self, limit: int, folder: PathLike | str | None = None
    ) -> None:
        self.limit = limit
        self.size = 0
        self._kept: dict[Hashable, list] = {}
        self._file = self._map = None
        if folder is not None:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def put(self, key: Hashable, tensors: Sequence[Tensor]) -> bool:
        """Keep tensors, unless that would exceed the limit or the disk.

        Args:
            key (Hashable): What :meth:`get` is asked for; not there yet.
            tensors (Sequence[Tensor]): On any device.

        Returns:
            bool: Whether they are kept.
        """
        size = sum(t.numel() * t.element_size() for t in tensors)
        if self.size + size > self.limit:
            return False
        keep = self._in_memory if self._file is None else self._in_file
        try:
            kept = [keep(tensor.detach().cpu()) for tensor in tensors]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.limit = self.size
            return False
        self._kept[key] = kept
        self.size += size
        return True

    def get(self, key: Hashable) -> list[Tensor] | None:
        """Tensors on the CPU, not to be changed; None if there are none."""
        found = self._kept.get(key)
        if found is None or self._file is None:
            return found
        return [self._read(*place) for place in found]

    @staticmethod
    def _in_memory(tensor: Tensor) -> Tensor:
        # A part of a batch would keep all of it.
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        return tensor.pin_memory() if torch.cuda.is_available() else tensor

    def _in_file(self, tensor: Tensor) -> tuple[int, torch.Size, torch.dtype]:
        end = self._file.seek(0, 2)
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        self._file.seek(start)
        flat = tensor.contiguous().flatten().view(torch.uint8)
        data = memoryview(flat.numpy())
        while len(data):  # a raw file may take a part at a time
            data = data[self._file.write(data) :]
        return start, tensor.shape, tensor.dtype

    def _read(
        self, start: int, shape: torch.Size, dtype: torch.dtype
    ) -> Tensor:
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        end = start + shape.numel() * dtype.itemsize
        if self._map is None or len(self._map) < end:
            # Copied on write, of which there is none: torch wants a buffer
            # that could be written to.
            self._map = mmap.mmap(
                self._file.fileno(), 0, access=mmap.ACCESS_COPY
            )
        return torch.frombuffer(
            self._map, dtype=dtype, count=shape.numel(), offset=start
        ).view(shape)
