from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gslora_mm.lora import disable_lora
from .replay import replay_batches

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel


@torch.no_grad()
def class_means(
    model: ForgettingModel,
    dataset: ForgetRetainDataset,
    passes: int = 1,
    batch_size: int = 16,
) -> tuple[Tensor, Tensor]:
    r"""Mean feature of every class, of the model without its adapter.

    .. math:: p_k = \frac{1}{|\{i: y_i = k\}|} \sum_{i: y_i = k} f_i

    over the images of both halves, in evaluation mode. Images come through
    the training pipeline, so that more than one pass averages over its
    augmentations as well. The result follows from model and data alone: each
    sample is drawn from a seed of its own.

    Args:
        model (ForgettingModel): Its mode is put back at the end.
        dataset (ForgetRetainDataset): The replay images of a step.
        passes (int): Times that each image is read. Defaults to 1.
        batch_size (int): Images of a batch. Defaults to 16.

    Returns:
        tuple[Tensor, Tensor]: Means, float32 of shape (num_classes, C), zero
        for a class without data; and the number of features that each is the
        mean of, shape (num_classes, ). Both on the CPU.
    """
    num_classes = model.task.num_classes(model.model)
    counts = torch.zeros(num_classes, dtype=torch.long)
    sums = None
    training = model.training
    model.eval()
    try:
        with disable_lora(model.model):
            for batch in replay_batches(dataset, batch_size, passes):
                half = model.task.read(model.model, batch)
                features = half.features.cpu().double()
                labels = half.labels.cpu()
                if sums is None:
                    sums = features.new_zeros(num_classes, features.shape[1])
                sums.index_add_(0, labels, features)
                counts += labels.bincount(minlength=num_classes)
    finally:
        model.train(training)
    return (sums / counts.clamp(min=1)[:, None]).float(), counts
