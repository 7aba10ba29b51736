"""Begin and end of a run in one or several processes."""

import logging
import os
import sys

import torch
from mmengine import dist


def init_processes(launcher: str, dist_cfg: dict | None = None) -> None:
    """Form the process group, before anything asks how many there are.

    Args:
        launcher (str): ``'none'``, ``'pytorch'`` (torchrun), ``'slurm'`` or
            ``'mpi'``.
        dist_cfg (dict, optional): ``env_cfg.dist_cfg`` of the config.
            Defaults to None.
    """
    if launcher == 'none' or dist.is_distributed():
        return
    if launcher == 'pytorch' and not torch.cuda.is_available():
        # MMEngine's own way selects a GPU in any case.
        torch.distributed.init_process_group('gloo')
        return
    dist.init_dist(launcher, **(dist_cfg or {}))


def leave(message: str | None = None) -> None:
    """End this process, with an error if there is a message.

    Freeing a gloo group at interpreter exit can hang: its destructor holds
    the lock of Python while it waits for a thread that needs it. So several
    processes on CPUs end without taking their group apart.

    Args:
        message (str, optional): What went wrong. Defaults to None.
    """
    if not dist.is_distributed() or torch.cuda.is_available():
        sys.exit(message)
    if message:
        print(message, file=sys.stderr)
    else:
        dist.barrier()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if message else 0)
