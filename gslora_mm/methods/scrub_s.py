from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .arguments import check_weights
from .scrub import SCRUB

if TYPE_CHECKING:
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class SCRUBS(SCRUB):
    r"""SCRUB-S: SCRUB with smoothing.

    The variant of :class:`SCRUB` in GS-LoRA's tables,
    https://arxiv.org/abs/2403.11530. Its S is the smoothing of "Smoothed
    gradient descent-ascent": both phases are held close to a slow average
    :math:`\bar\theta` of the weights,

    .. math::
        L = L_{SCRUB} + p \sum_i \Vert \theta_i - \bar\theta_i \Vert_2,
        \qquad \bar\theta \leftarrow d\, \bar\theta + (1 - d)\, \theta

    over all tensors i that are trained: those of the adapter, or of the
    whole model without one. The average starts with the step, and takes
    the weights in at the end of each epoch. The norms are not squared;
    where they are zero, their gradient counts as zero. (The code of these
    tables takes the weights in about ten times less often, after a cycle of
    five epochs with and five without maximisation: there, the same p holds
    back more.)

    Args:
        alpha (float): As in :class:`SCRUB`. Defaults to 0.5.
        gamma (float): As in :class:`SCRUB`. Defaults to 1.0.
        temperature (float): As in :class:`SCRUB`. Defaults to 2.0.
        msteps (int): As in :class:`SCRUB`. Defaults to 3.
        smoothing (float): p; a list in a config has one value a step.
            Defaults to 0.1 (the tables, faces).
        decay (float): d, in [0, 1]. Defaults to 0.9.
    """

    name = 'scrub_s'
    per_step = (*SCRUB.per_step, 'smoothing')

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.0,
        temperature: float = 2.0,
        msteps: int = 3,
        smoothing: float = 0.1,
        decay: float = 0.9,
    ) -> None:
        super().__init__(alpha, gamma, temperature, msteps)
        check_weights(smoothing=smoothing, decay=decay)
        if decay > 1:
            raise ConfigError(
                f'method.decay = {decay!r}: must be a number in [0, 1]'
            )
        self.smoothing = smoothing
        self.decay = decay
        self._trained: list[Tensor] = []
        self.register_buffer('epochs_averaged', torch.tensor(0))

    def setup(self, model: ForgettingModel) -> None:
        super().setup(model)
        self._trained = [
            p for p in model.model.parameters() if p.requires_grad
        ]
        for i, parameter in enumerate(self._trained):
            self.register_buffer(f'average_{i}', parameter.detach().clone())

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield from super().losses(forget, retain)
        distances = [
            torch.linalg.vector_norm(parameter - average)
            for parameter, average in self._pairs()
        ]
        yield {'loss_smoothing': self.smoothing * torch.stack(distances).sum()}

    @torch.no_grad()
    def after_update(self, optimizer: Optimizer) -> None:
        # With accumulated gradients an epoch may end between two updates.
        epochs, _ = self.phase_at(self.iteration + 1)
        if epochs == self.epochs_averaged:
            return
        for parameter, average in self._pairs():
            average.lerp_(parameter, 1 - self.decay)
        self.epochs_averaged.fill_(epochs)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What is trained, each tensor with its average."""
        for i, parameter in enumerate(self._trained):
            yield parameter, self.get_buffer(f'average_{i}')
