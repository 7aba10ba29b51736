"""The loss that a model gives to a class that is not there."""

from itertools import islice

import torch
from torch import Tensor

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import TaskModel
from .replay import replay_batches, without_adapter

#: Batches of replay images that are read for it.
BATCHES = 4


@torch.no_grad()
def loss_of_wrong_class(
    model: TaskModel, dataset: ForgetRetainDataset, batch_size: int = 16
) -> float:
    """Classification loss of the images to forget under wrong names.

    Every object is called one of the retained classes, drawn from a fixed
    seed. So large is the loss of a model, its margins and scales included,
    for a class of which an image shows nothing.

    Args:
        model (TaskModel): At the start of a step, on its device.
        dataset (ForgetRetainDataset): The replay images of the step.
        batch_size (int): Images of a batch. Defaults to 16.
    """
    retain = dataset.datasets[1]
    shown = [n > 0 for n in retain.class_counts.values()]
    choices = torch.as_tensor(retain.labels[shown if any(shown) else ...])
    generator = torch.Generator().manual_seed(0)

    def draw(labels: Tensor) -> Tensor:
        index = torch.randint(
            len(choices), labels.shape, generator=generator
        )
        return choices[index].to(labels)

    losses: list[float] = []
    with without_adapter(model):
        batches = replay_batches(dataset, batch_size, roles=('forget',))
        for batch in islice(batches, BATCHES):
            half = model.task.read(model.model, batch, 'forget')
            losses.append(float(half.relabelled(draw).loss_cls))
    return sum(losses) / len(losses)
