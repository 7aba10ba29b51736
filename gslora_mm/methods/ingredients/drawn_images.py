"""Images of classes of which there are none, drawn from the model itself."""

import itertools
from collections.abc import Callable, Iterator

import torch
from mmengine.logging import print_log
from torch import Tensor

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import HalfBatch, TaskModel
from .replay import replay_batches, without_adapter

#: Step of Adam, and the noise that keeps what is drawn from resting on single
#: values of pixels, as shares of the range of a channel.
STEP, NOISE = 0.012, 0.012


class DrawnImages:
    r"""What a model takes for images of some classes.

    .. math::
        x \leftarrow \arg\min_x L(x, \tilde y), \quad x_0 \text{ a retain
        image}

    with the model's own loss L as the step found it, and the labels of all
    that the image shows replaced by the classes to be drawn, in turn: model
    inversion, as in "Dreaming to Distill: Data-free Knowledge Transfer via
    DeepInversion", https://arxiv.org/abs/1912.08795, without its terms that
    make images look natural, and from real images instead of noise.

    To be made in :meth:`~gslora_mm.methods.BaseMethod.prepare`. The result
    follows from model, data and torch's generator. What is drawn shows what
    the model knows of a class: it is kept in memory and never written.

    Args:
        model (TaskModel): At the start of a step, on its device.
        dataset (ForgetRetainDataset): Its retain images are begun with.
        labels (list[int]): The classes, each of which is drawn in turn.
        images (int): How many are drawn; a detector's show several objects.
        iterations (int): Steps of the drawing.
        batch_size (int): Images of a batch. Defaults to 16.
    """

    def __init__(
        self,
        model: TaskModel,
        dataset: ForgetRetainDataset,
        labels: list[int],
        images: int,
        iterations: int,
        batch_size: int = 16,
    ) -> None:
        self._model = model
        self._batches: list[tuple[Tensor, list]] = []
        print_log(
            f'drawing {images} images of {len(labels)} classes', 'current'
        )
        first = 0
        with without_adapter(model):
            for start, samples in _retain_batches(
                model, dataset, images, batch_size
            ):
                turns = labels[first:] + labels[:first]
                inputs = self._draw(start, samples, turns, iterations)
                self._batches.append((inputs, samples))
                first = (first + len(samples)) % len(labels)

    def half(self) -> HalfBatch:
        """Some of them, as the forget half of a batch.

        What they show is labelled as before they were drawn.
        """
        index = int(torch.randint(len(self._batches), ()))
        return self._read(*self._batches[index])

    def _read(self, inputs: Tensor, samples: list) -> HalfBatch:
        task, model = self._model.task, self._model.model
        everything = torch.arange(len(samples), device=inputs.device)
        trunk = task.extract(model, inputs)
        return task.half(model, inputs, trunk, samples, everything, 'forget')

    def _draw(
        self, start: Tensor, samples: list, labels: list[int], iterations: int
    ) -> Tensor:
        """Change images until the model finds these classes in them."""
        by_channel = start.transpose(0, 1).flatten(1)
        shape = (1, -1, *[1] * (start.dim() - 2))
        low = by_channel.amin(1).view(shape)
        high = by_channel.amax(1).view(shape)
        size = (high - low).clamp(min=1e-6)
        # In units of the range: steps are the same for all channels.
        drawn = ((start - low) / size).requires_grad_(True)
        optimizer = torch.optim.Adam([drawn], lr=STEP)
        for _ in range(iterations):
            # On the CPU, whose generator is the one that is put back.
            noise = NOISE * torch.randn(start.shape).to(start)
            with torch.enable_grad():
                half = self._read((drawn + noise) * size + low, samples)
                loss = half.relabelled(_in_turn(labels)).loss
                (drawn.grad,) = torch.autograd.grad(loss, [drawn])
            optimizer.step()
            with torch.no_grad():
                drawn.clamp_(0, 1)
        return drawn.detach() * size + low


def _in_turn(labels: list[int]) -> Callable[[Tensor], Tensor]:
    """Gives each object the next of some classes, whatever it shows."""
    turns = itertools.cycle(labels)
    return lambda found: torch.tensor(
        [next(turns) for _ in found], dtype=found.dtype, device=found.device
    )


def _retain_batches(
    model: TaskModel,
    dataset: ForgetRetainDataset,
    images: int,
    batch_size: int,
) -> Iterator[tuple[Tensor, list]]:
    """Preprocessed batches of retain images, as often as are needed."""
    passes = -(-images // len(dataset.datasets[1]))
    for batch in replay_batches(dataset, batch_size, passes, ('retain',)):
        if images <= 0:
            return
        data = model.model.data_preprocessor(batch, training=False)
        count = min(images, len(data['data_samples']))
        images -= count
        yield data['inputs'][:count], data['data_samples'][:count]
