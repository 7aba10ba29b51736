"""Values that have to be the same on all processes."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from mmengine import dist
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

Value = TypeVar('Value')


def model_of(runner) -> nn.Module:
    """The model of a Runner, without the data parallel wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def mean_over_processes(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace values by their means over processes, keeping gradients.

    Gradients are averaged by :func:`share_gradients`; doing the same to the
    values makes the logs, and what is decided from them, equal on all
    processes and equal to one process with the joint batch.

    Args:
        losses (dict[str, Tensor]): Scalars.

    Returns:
        dict[str, Tensor]: Scalars with the same gradients.
    """
    if dist.get_world_size() == 1:
        return losses
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    mean = values.clone()
    dist.all_reduce(mean, op='mean')
    return {
        # In this order the value is the mean to the bit on every process.
        name: mean[i] + (loss - loss.detach())
        for i, (name, loss) in enumerate(losses.items())
    }


def row_weight(rows: Tensor) -> float:
    """Weight of this process's mean over rows in that of all processes.

    Detectors have as many rows as objects, so that processes differ. The
    mean over processes of their means over rows, each times this weight, is
    the mean over all rows, and so are the gradients of it.

    Args:
        rows (Tensor): Shape (N, ...).

    Returns:
        float: N over the mean of N over processes; 1 if there is no row.
    """
    if dist.get_world_size() == 1:
        return 1.0
    mean = torch.tensor(float(len(rows)), device=rows.device)
    dist.all_reduce(mean, op='mean')
    return len(rows) / mean.item() if mean else 1.0


@torch.no_grad()
def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over processes.

    In one exchange for all: what is trained here is small. A parameter that
    no process used keeps its gradient None.

    Args:
        parameters (Iterable[nn.Parameter]): In the same order everywhere.
    """
    if dist.get_world_size() == 1:
        return
    trainable = [p for p in parameters if p.requires_grad]
    used = torch.tensor(
        [p.grad is not None for p in trainable],
        dtype=torch.float,
        device=trainable[0].device,
    )
    dist.all_reduce(used, op='sum')
    trainable = [
        p for p, count in zip(trainable, used.tolist(), strict=True) if count
    ]
    for parameter in trainable:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    dist.all_reduce_params([p.grad for p in trainable], op='mean')


def share_tensors(tensors: Iterable[Tensor]) -> None:
    """Give all processes the parameters or buffers of the first.

    They begin equal unless the config seeds every process differently.

    Args:
        tensors (Iterable[Tensor]): In the same order everywhere.
    """
    for tensor in tensors:
        dist.broadcast(tensor.data)


def of_first_process(value: Value) -> Value:
    """What the first process has, for all of them to decide the same by.

    Args:
        value (Any): Plain data, of this process.
    """
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
