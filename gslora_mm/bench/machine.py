"""The machine that runs share, and their part of it."""

import os
from typing import Any

import torch

#: Variables that say how many threads a process computes with.
THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')


def environment(jobs: int) -> dict[str, str]:
    """Variables for one of several runs that share the cores.

    Args:
        jobs (int): Runs at a time.

    Returns:
        dict[str, str]: This process' own, and an equal share of the cores
        where these do not name a number of threads.
    """
    threads = os.environ.get(THREADS[0], str(max(1, num_cores() // jobs)))
    return {**dict.fromkeys(THREADS, threads), **os.environ}


def machine() -> dict[str, Any]:
    """What of this machine the times of a run depend on.

    Returns:
        dict[str, Any]: ``cores``, ``device`` and version of ``torch``.
    """
    has_gpu = torch.cuda.is_available()
    return dict(
        cores=num_cores(),
        device=torch.cuda.get_device_name() if has_gpu else 'CPU',
        torch=torch.__version__,
    )


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
