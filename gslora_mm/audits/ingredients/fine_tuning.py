"""Fine-tuning as an attacker does it."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import Dataset

from gslora_mm.tasks import BaseTask
from gslora_mm.utils import ConfigError


def fine_tune(
    model: nn.Module,
    task: BaseTask,
    images: Dataset,
    iterations: Sequence[int],
    batch_size: int,
    lr: float,
    seed: int,
) -> Iterator[int]:
    """Train all parameters that need gradients, by the model's own loss.

    AdamW with a weight decay of 1e-4 and a constant learning rate.
    Statistics of normalisations stay, and there is no dropout: it lasts for
    tens of iterations on tens of images.

    Args:
        model (nn.Module): Changed in place.
        task (BaseTask): The task that reads it.
        images (Dataset): Training images.
        iterations (Sequence[int]): When to stop for a look, ascending.
        batch_size (int): Images of an iteration; all, if there are fewer.
        lr (float): Learning rate.
        seed (int): Of the order of the images.

    Yields:
        int: Each of ``iterations`` once it is reached.

    Raises:
        ConfigError: If the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=1e-4)
    samples: dict[int, dict] = {}
    queue: list[int] = []
    model.eval()
    for iteration in range(1, max(iterations) + 1):
        while len(queue) < min(batch_size, len(images)):
            queue += torch.randperm(len(images), generator=generator).tolist()
        batch, queue = queue[:batch_size], queue[batch_size:]
        for index in batch:
            if index not in samples:
                samples[index] = images[index]
        batch = pseudo_collate([samples[index] for index in batch])
        with torch.enable_grad():
            loss = task.read(model, batch).loss
        if not loss.isfinite():
            raise ConfigError(
                'lr', lr, f'the loss is {loss.item()}; use a smaller one'
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if iteration in iterations:
            yield iteration
