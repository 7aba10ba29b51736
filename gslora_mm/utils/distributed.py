"""Values that have to be the same on all processes."""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def mean_over_processes(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace values by their means over processes, keeping gradients.

    Gradients are averaged by the data parallel wrapper; doing the same to
    the values makes the logs, and what is decided from them, equal on all
    processes and equal to one process with the joint batch.

    Args:
        losses (dict[str, Tensor]): Scalars.

    Returns:
        dict[str, Tensor]: Scalars with the same gradients.
    """
    if get_world_size() == 1:
        return losses
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    mean = values.clone()
    all_reduce(mean, op='mean')
    return {
        # In this order the value is the mean to the bit on every process.
        name: mean[i] + (loss - loss.detach())
        for i, (name, loss) in enumerate(losses.items())
    }
