from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmengine.logging import print_log
from torch import Tensor

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .arguments import check_bounds, check_counts, check_weights
from gslora_mm.methods.ingredients.teacher import Taught

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class SCRUB(Taught):
    r"""SCRUB: away from the teacher on forget, to it on retain images.

    Kurmanji, Triantafillou, Hayes and Triantafillou, "Towards Unbounded
    Machine Unlearning", NeurIPS 2023, https://arxiv.org/abs/2302.09880.

    .. math::
        L_{max} = - T^2\, \mathrm{KL}_{forget}, \qquad
        L_{min} = \gamma\, L_{retain} + \alpha\, T^2\, \mathrm{KL}_{retain},
        \quad \mathrm{KL} = \mathrm{KL}(\sigma(t / T) \,\Vert\,
        \sigma(s / T))

    with logits t of the model as it was when the step began. Each of the
    first ``msteps`` epochs is a pass over the forget images with
    :math:`L_{max}`, then one over the retain images with :math:`L_{min}`;
    all later epochs are of the latter alone. To end in order, a step has to
    be longer than ``msteps`` epochs; a shorter one is warned of.

    What is open, or does not fit, and what is done here:

    * As halves of a batch are equal as a rule, the pass over the forget
      images takes iterations in proportion to their number; with another
      ``schedule.forget_ratio`` it is more or less than one pass. The half
      that a phase has no use for is not looked at, and its loss is logged as
      0, but its images go by: a pass has the number of images of one, and
      may begin in one shuffled round and end in the next.
    * On retain images, what the teacher says of the classes to forget is
      left out. (The paper forgets images, of any class.)
    * At the teacher itself KL has no slope. Batch norms and weight decay
      move a network away from it; without any of this only rounding does,
      which Adam scales up and SGD does not.
    * Rewinding (SCRUB+R) picks an earlier state against membership
      inference; here the last state counts.

    GS-LoRA's tables have :math:`\alpha = 0.001, \gamma = 0.99, T = 2`, and
    repeat five epochs with and five without maximisation.

    Args:
        alpha (float): Weight of the distillation; a list in a config has one
            value a step. Defaults to 0.5 (the paper, small scale).
        gamma (float): Weight of the retain loss; a list in a config has one
            value a step. Defaults to 1.0 (the paper, small scale).
        temperature (float): T. Defaults to 2.0 (the paper, small scale).
        msteps (int): Epochs with maximisation; a list in a config has one
            value a step. Defaults to 3 (the paper, small scale).
    """

    name = 'scrub'
    ends_at_zero = False
    per_step = ('alpha', 'gamma', 'msteps')

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.0,
        temperature: float = 2.0,
        msteps: int = 3,
    ) -> None:
        super().__init__()
        check_weights(alpha=alpha, gamma=gamma)
        check_bounds(temperature=temperature)
        check_counts(msteps=msteps)
        self.alpha = alpha
        self.gamma = gamma
        self.temperature = temperature
        self.msteps = msteps
        self._num_images = dict(forget=1, retain=1)

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        super().prepare(model, dataset)
        forget, both = dataset.cumulative_sizes
        self._num_images = dict(forget=forget, retain=both - forget)

    def phase_at(self, iteration: int) -> tuple[int, str]:
        """Epoch, from 0, and ``'max'`` or ``'min'`` in an iteration."""
        min_iters = self.iterations_per_epoch
        forget, retain = self._num_images.values()
        max_iters = -(-min_iters * forget // retain)
        epoch, place = divmod(iteration, max_iters + min_iters)
        if epoch < self.msteps:
            return epoch, 'max' if place < max_iters else 'min'
        place = iteration - self.msteps * (max_iters + min_iters)
        return self.msteps + place // min_iters, 'min'

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        if self.iteration == 0:
            self._check_length()
        if self.phase_at(self.iteration)[1] == 'max':
            kl = self.divergence(forget)
            nothing = kl.new_zeros(())
            yield {'loss_forget': -kl, 'loss_retain': nothing}
        else:
            kl = self.divergence(retain, only_kept=True)
            loss = self.gamma * retain.loss + self.alpha * kl
            yield {'loss_forget': kl.new_zeros(()), 'loss_retain': loss}

    def _check_length(self) -> None:
        epochs = self.phase_at(self.max_iters - 1)[0]
        if epochs < self.msteps:
            print_log(
                f'method.msteps = {self.msteps}: the step ends in epoch '
                f'{epochs + 1}, before the last pass with maximisation and '
                'what makes up for it; train longer, or set fewer',
                'current',
                logging.WARNING,
            )

    def divergence(self, half: HalfBatch, only_kept: bool = False) -> Tensor:
        """Of a half's outputs from the teacher's, times T squared.

        Args:
            half (HalfBatch): With N rows; zero is the answer for none.
            only_kept (bool): Whether the classes to forget are left out.
                Defaults to False.
        """
        teacher, student = self._teacher.sees(half).logits, half.logits
        if only_kept:
            teacher, student = self.kept(teacher), self.kept(student)
        kl = distillation_loss(
            student, teacher, self.temperature, half.activation
        )
        return row_weight(student) * self.temperature**2 * kl
