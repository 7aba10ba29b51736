from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .arguments import check_weights
from .base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


class RelabelledForgetting(BaseMethod):
    r"""What the papers' baselines share: forgetting by wrong labels.

    .. math::
        L = L_{retain} + \beta\, L_{forget}, \quad
        L_{forget} = L(x_f, \tilde y), \quad \tilde y \sim
        \mathrm{Uniform}(\text{retained classes})

    The forget images are learned as something else, and a subclass protects
    the rest. A wrong label is drawn anew each time an image is seen, among
    the classes that have retain images: one that was forgotten before would
    be taught again. For a detector, to call an object by another name would
    be a false positive of that class; its objects become background. Retained
    objects in forget images, where ``forgetting.other_annotations='keep'``
    leaves them there, keep their labels.

    Args:
        beta (float): Weight of the forget half.
    """

    per_step = ('beta',)

    def __init__(self, beta: float) -> None:
        super().__init__()
        check_weights(beta=beta)
        self.beta = beta
        self._to_background = False
        self._forgotten = torch.zeros(0, dtype=torch.long)
        self._wrong_labels = torch.zeros(0, dtype=torch.long)

    def setup(self, model: ForgettingModel) -> None:
        self._to_background = model.task.has_background

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        classes = list(dataset.metainfo['classes'])
        forget, retain = dataset.datasets
        self._forgotten = torch.as_tensor(forget.labels)
        self._wrong_labels = torch.tensor(
            [
                classes.index(name)
                for name, count in retain.class_counts.items()
                if count
            ]
        )

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield self.forget_part(forget)
        yield self.retain_part(retain)

    def forget_part(self, forget: HalfBatch) -> dict[str, Tensor]:
        """All terms of the forget half."""
        wrong = forget.relabelled(self.draw)
        return {'loss_forget': self.beta * wrong.loss}

    def retain_part(self, retain: HalfBatch) -> dict[str, Tensor]:
        """All terms of the retain half."""
        return {'loss_retain': retain.loss}

    def draw(self, labels: Tensor) -> Tensor:
        """Labels without what is to be forgotten.

        Args:
            labels (Tensor): Class ids, any shape.

        Returns:
            Tensor: The same shape; for ids of forgotten classes, wrong ones,
            or -1 for background.
        """
        if self._to_background:
            wrong = torch.full_like(labels, -1)
        else:
            index = torch.randint(len(self._wrong_labels), labels.shape)
            wrong = self._wrong_labels[index].to(labels)
        is_forgotten = torch.isin(labels, self._forgotten.to(labels))
        return torch.where(is_forgotten, wrong, labels)
