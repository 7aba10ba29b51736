"""The replay images of a step, for a method that prepares itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from mmengine.dataset import pseudo_collate

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.lora import disable_lora
from gslora_mm.tasks import ROLES, HalfBatch, TaskModel
from gslora_mm.tasks.temporary import evaluating


@contextmanager
def without_adapter(model: TaskModel) -> Iterator[None]:
    """A context with the model as the step found it, in evaluation mode.

    Args:
        model (TaskModel): Its mode is put back at the end.
    """
    with evaluating(model), disable_lora(model.model):
        yield


def read_replay(
    model: TaskModel,
    dataset: ForgetRetainDataset,
    batch_size: int,
    passes: int = 1,
    roles: Sequence[str] = ROLES,
) -> Iterator[HalfBatch]:
    """Let a model read the replay images, batch by batch.

    Args:
        model (TaskModel): In the mode that is wanted.
        dataset (ForgetRetainDataset): See :func:`replay_batches`.
        batch_size (int): See :func:`replay_batches`.
        passes (int): See :func:`replay_batches`.
        roles (Sequence[str]): See :func:`replay_batches`.

    Yields:
        HalfBatch: All images of a batch.
    """
    for batch in replay_batches(dataset, batch_size, passes, roles):
        yield model.task.read(model.model, batch)


def replay_batches(
    dataset: ForgetRetainDataset,
    batch_size: int,
    passes: int = 1,
    roles: Sequence[str] = ROLES,
) -> Iterator[dict]:
    """Collated batches, each of one half, in order.

    Images come through the training pipeline, each from a seed of its own:
    the batches follow from the dataset and the arguments alone.

    Args:
        dataset (ForgetRetainDataset): The replay images.
        batch_size (int): Most images of a batch.
        passes (int): Times that each image is read, with other
            augmentations. Defaults to 1.
        roles (Sequence[str]): The halves wanted. Defaults to both.

    Yields:
        dict: For :meth:`gslora_mm.tasks.BaseTask.read`.
    """
    for turn in range(passes):
        start = 0
        for subset, end in zip(
            dataset.datasets, dataset.cumulative_sizes, strict=True
        ):
            for first in range(start, end, batch_size):
                if subset.role not in roles:
                    break
                indices = range(first, min(first + batch_size, end))
                samples = [dataset[i, _seed(turn, i)] for i in indices]
                yield pseudo_collate(samples)
            start = end


def _seed(turn: int, index: int) -> int:
    return int(np.random.SeedSequence([turn, index]).generate_state(1)[0])
