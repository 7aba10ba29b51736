from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .arguments import check_weights
from .base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.models import ForgettingModel, HalfBatch


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
    be a false positive of that class; its objects become background.

    Args:
        beta (float): Weight of the forget half.
    """

    per_step = ('beta',)

    def __init__(self, beta: float) -> None:
        super().__init__()
        check_weights(beta=beta)
        self.beta = beta
        self._to_background = False
        self._wrong_labels = torch.zeros(0, dtype=torch.long)

    def setup(self, model: ForgettingModel) -> None:
        self._to_background = model.task.has_background

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        classes = list(dataset.metainfo['classes'])
        counts = dataset.datasets[1].class_counts
        self._wrong_labels = torch.tensor(
            [classes.index(name) for name, count in counts.items() if count]
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
        """Wrong class ids, -1 for background, of the shape of ``labels``."""
        if self._to_background:
            return torch.full_like(labels, -1)
        index = torch.randint(len(self._wrong_labels), labels.shape)
        return self._wrong_labels[index].to(labels.device)
