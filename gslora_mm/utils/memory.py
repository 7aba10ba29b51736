"""Peak memory of a stretch of a run."""

import contextlib
from pathlib import Path

import torch


def reset_peak_memory() -> None:
    """Start measuring: on the GPU if there is one, else this process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    # Linux only; elsewhere the peak is that of the whole process.
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def peak_memory_mb() -> int:
    """MiB at the peak since :func:`reset_peak_memory`.

    Returns:
        int: Memory allocated on the GPU, or resident memory of this process
        where there is none.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    with contextlib.suppress(OSError):
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) // 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
