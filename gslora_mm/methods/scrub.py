import logging

from mmengine.logging import print_log

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .settings import Count, NonNegative, PerStep, Positive


@METHODS.register_module()
class SCRUB(BaseMethod):
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
        alpha: Weight of the distillation.
        gamma: Weight of the retain loss.
        temperature: T.
        msteps: Epochs with maximisation. All four are the paper's, small
            scale.
    """

    name = 'scrub'
    can_learn = False  # the teacher has not
    ends_at_zero = False
    alpha: PerStep[NonNegative] = 0.5
    gamma: PerStep[NonNegative] = 1.0
    temperature: PerStep[Positive] = 2.0
    msteps: PerStep[Count] = 3

    def prepare(self, model, dataset):
        self.teacher = Teacher(model, dataset)
        self.num_forget, both = dataset.cumulative_sizes
        self.num_retain = both - self.num_forget

    def phase_at(self, iteration: int) -> tuple[int, str]:
        """Epoch, from 0, and ``'max'`` or ``'min'`` in an iteration."""
        min_iters = self.iterations_per_epoch
        max_iters = -(-min_iters * self.num_forget // self.num_retain)
        epoch, place = divmod(iteration, max_iters + min_iters)
        if epoch < self.msteps:
            return epoch, 'max' if place < max_iters else 'min'
        place = iteration - self.msteps * (max_iters + min_iters)
        return self.msteps + place // min_iters, 'min'

    def losses(self, forget, retain):
        if self.iteration == 0:
            self._check_length()
        if self.phase_at(self.iteration)[1] == 'max':
            teacher, student = self.teacher.sees(forget).logits, forget.logits
            kl = self.divergence(student, teacher, forget.activation)
            nothing = kl.new_zeros(())
            yield {'loss_forget': -kl, 'loss_retain': nothing}
        else:
            student, teacher = self.teacher.kept_logits(retain)
            kl = self.divergence(student, teacher, retain.activation)
            loss = self.gamma * retain.loss + self.alpha * kl
            yield {'loss_forget': kl.new_zeros(()), 'loss_retain': loss}

    def divergence(self, student, teacher, activation):
        """:math:`T^2` KL of logits from the teacher's, zero without rows."""
        kl = distillation_loss(student, teacher, self.temperature, activation)
        return row_weight(student) * self.temperature**2 * kl

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
