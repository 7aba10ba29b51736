import torch.nn.functional as F
from torch import Tensor

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep, Positive, Share


@METHODS.register_module()
class LIRF(BaseMethod):
    r"""Learning with Recoverable Forgetting, without the recovery.

    Ye, Fu, Song, Yang, Liu, Jin, Song and Wang, "Learning with Recoverable
    Forgetting", ECCV 2022, https://arxiv.org/abs/2207.08224.

    .. math::
        L = L_{retain} + \beta\, [(1 - a)\, L_{forget} - w_{at}\, AT(f, g)
        + w_{kp}\, a\, T^2\, \mathrm{KL}(\sigma(t / T) \,\Vert\,
        \sigma(s / T))]

        AT(f, g) = \mathrm{mean}_i\, \Vert n(f_i) - n(g_i) \Vert_2^2, \quad
        n(f) = f^2 / \Vert f^2 \Vert_2

    Knowledge of the forget images is removed at the outputs, by wrong
    labels, and inside: the attention maps n of their features :math:`f` are
    pushed away from those of the teacher's :math:`g`. What the teacher's
    logits :math:`t` say of them about the classes to keep is preserved in
    the logits :math:`s`. The push cannot run away: AT is at most 2.

    What is open in the paper, or does not fit, and what is done here:

    * The paper deposits the forgotten knowledge in a module of its own, to
      give it back on request. An erasure must not keep it: no deposit, and
      none of the losses that train it alone.
    * The paper cuts the network in its middle, takes the features there and
      trains what is below. A Transformer under this toolbox is trained in
      every block, by its adapter, so features are those before the class
      layer.
    * The retain loss, with five times the weight of the forget images, and
      the weights are those of GS-LoRA's tables, which count AT as the mean
      over 512 dimensions with a weight of 300. Here it is a sum over
      dimensions, so that the weight does not depend on their number.

    The tables have no LIRF for detectors; there rows are matched queries.
    The images of the forget half are seen twice in an iteration, once with
    wrong labels and once with their own.

    Args:
        beta: Weight of the forget half.
        a: Share of preservation against wrong labels.
        w_kp: Weight of the preservation.
        w_at: Weight of the push.
        temperature: T.
    """

    name = 'lirf'
    can_learn = False  # the teacher has not
    beta: PerStep[NonNegative] = 0.2
    a: PerStep[Share] = 0.1
    w_kp: PerStep[NonNegative] = 10.0
    w_at: PerStep[NonNegative] = 0.6
    temperature: PerStep[Positive] = 10.0

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.teacher = Teacher(model, dataset)

    def losses(self, forget, retain):
        wrong = self.beta * self.wrong_labels.loss(forget)
        yield {'loss_forget': (1 - self.a) * wrong}
        yield self.removal(forget)
        yield {'loss_retain': retain.loss}

    def removal(self, forget):
        """The terms that need the teacher's help."""
        teacher = self.teacher.sees(forget)
        push = map_distance(forget.features, teacher.features)
        # Classes alone: it is background that an object is to become.
        kl = distillation_loss(
            self.teacher.kept(forget.logits, background=False),
            self.teacher.kept(teacher.logits, background=False),
            self.temperature,
            forget.activation,
        )
        weight = row_weight(forget.features)
        push, kl = weight * push, weight * self.temperature**2 * kl
        return {
            'loss_push': -self.beta * self.w_at * push,
            'loss_preserve': self.beta * self.w_kp * self.a * kl,
            'push': push.detach(),
        }


def map_distance(features: Tensor, others: Tensor) -> Tensor:
    """Distance of attention maps, AT in :class:`LIRF`.

    Args:
        features (Tensor): Shape (N, C).
        others (Tensor): Shape (N, C).

    Returns:
        Tensor: Scalar in [0, 2], zero without rows.
    """
    maps, other_maps = (
        F.normalize(rows.float().square(), dim=1)
        for rows in (features, others)
    )
    return (maps - other_maps).square().sum() / max(len(features), 1)
