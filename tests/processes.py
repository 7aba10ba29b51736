"""Two processes on one machine, which talk through gloo."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_two_processes(function: Callable[[int], Any], folder: Path) -> list:
    """What a function gives on each of two processes.

    Args:
        function: Of the rank, 0 or 1; at the top of its module.
        folder: Where they meet, and leave what they have found.

    Returns:
        list: By rank what the function has given, as it is read from a file
        of tensors.
    """
    # A forked process has all imports, which take a new interpreter seconds.
    # One that holds a GPU cannot be forked.
    method = 'spawn' if torch.cuda.is_available() else 'fork'
    arguments = function, str(folder)
    mp.start_processes(_worker, arguments, nprocs=2, start_method=method)
    return [torch.load(folder / f'{rank}.pth') for rank in (0, 1)]


def _worker(rank: int, function: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2
    )
    torch.save(function(rank), f'{folder}/{rank}.pth')
    # No destructors: gloo's waits for a thread that may wait for Python's
    # lock, which the destructor holds.
    os._exit(0)
