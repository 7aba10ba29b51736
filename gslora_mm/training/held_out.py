"""How far a step has come, read off images that it does not train on."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from mmengine.dataset import pseudo_collate

from gslora_mm.datasets import ClassSubset, ForgetRetainDataset
from gslora_mm.datasets.forget_retain import seeded
from gslora_mm.tasks import TaskModel
from gslora_mm.tasks.temporary import evaluating


class Look(NamedTuple):
    """What a model makes of images that are set aside.

    Attributes:
        named (float): Share of the objects to forget that it gives their own
            name, see :class:`~gslora_mm.tasks.ObjectRows`.
        surety (float): Mean probability that it gives them for it.
        loss (float | None): Its own loss on what is retained; None if there
            is no such image.
    """

    named: float
    surety: float
    loss: float | None


class HeldOut:
    """Images of both halves, to look at now and then.

    Those that :attr:`ForgetRetainDataset.held_out` sets aside; of a half
    that is too small to spare some, those that it is trained on. They are
    read once, through the training pipeline with fixed seeds.

    Args:
        dataset (ForgetRetainDataset): The replay images of a step.
        most (int): Most images of a half. Defaults to 48.
        batch_size (int): Images of a batch. Defaults to 16.

    Attributes:
        is_spared (bool): Whether those to forget are not trained on.
        classes (np.ndarray): Labels of what is to be forgotten.
    """

    def __init__(
        self,
        dataset: ForgetRetainDataset,
        most: int = 48,
        batch_size: int = 16,
    ) -> None:
        pairs = zip(dataset.held_out, dataset.datasets, strict=True)
        halves = [aside if len(aside) else used for aside, used in pairs]
        self.is_spared = len(dataset.held_out[0]) > 0
        self.classes = halves[0].labels
        self._forget, self._retain = (
            list(_batches(half, _spread(half, most), batch_size))
            for half in halves
        )

    @torch.no_grad()
    def look(self, model: TaskModel, *, retained: bool = True) -> Look:
        """See what a model makes of them; nothing of it changes.

        Args:
            model (TaskModel): On its device.
            retained (bool): Whether to look at what is retained, too.
                Defaults to True.
        """
        with evaluating(model):
            named, surety = self._look_at_forgotten(model)
            loss = self._loss(model) if retained and self._retain else None
        return Look(named, surety, loss)

    def _look_at_forgotten(self, model: TaskModel) -> tuple[float, float]:
        wanted = torch.as_tensor(self.classes)
        named, surety = [], []
        for batch in self._forget:
            rows = model.task.object_rows(model.model, batch).cpu()
            rows = rows.take(torch.isin(rows.labels, wanted))
            own = rows.probabilities.gather(1, rows.labels[:, None])[:, 0]
            named.append(rows.named.double())
            surety.append(own.double())
        return torch.cat(named).mean().item(), torch.cat(surety).mean().item()

    def _loss(self, model: TaskModel) -> float:
        sizes = [len(batch['inputs']) for batch in self._retain]
        losses = [
            float(model.task.read(model.model, batch).loss)
            for batch in self._retain
        ]
        weighted = sum(n * x for n, x in zip(sizes, losses, strict=True))
        return weighted / sum(sizes)


def _spread(images: ClassSubset, most: int) -> list[int]:
    """Positions evenly spread over a set."""
    number = min(len(images), most)
    return torch.linspace(0, len(images) - 1, number).long().tolist()


def _batches(
    images: ClassSubset, chosen: Sequence[int], size: int
) -> Iterable[dict]:
    """Collated batches, each image from a seed of its own."""
    for start in range(0, len(chosen), size):
        samples = []
        for index in chosen[start : start + size]:
            with seeded(index):
                samples.append(images[index])
        yield pseudo_collate(samples)
