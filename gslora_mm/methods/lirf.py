from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.distributed import row_weight
from .arguments import check_bounds, check_weights
from .relabelled import RelabelledForgetting
from gslora_mm.methods.ingredients.teacher import Taught

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class LIRF(Taught, RelabelledForgetting):
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
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 0.2.
        a (float): Share of preservation against wrong labels, in [0, 1].
            Defaults to 0.1.
        w_kp (float): Weight of the preservation. Defaults to 10.0.
        w_at (float): Weight of the push. Defaults to 0.6.
        temperature (float): T. Defaults to 10.0.
    """

    name = 'lirf'
    per_step = (*RelabelledForgetting.per_step, 'a', 'w_kp', 'w_at')

    def __init__(
        self,
        beta: float = 0.2,
        a: float = 0.1,
        w_kp: float = 10.0,
        w_at: float = 0.6,
        temperature: float = 10.0,
    ) -> None:
        super().__init__(beta)
        check_weights(a=a, w_kp=w_kp, w_at=w_at)
        if a > 1:
            raise ConfigError(f'method.a = {a!r}: must be a number in [0, 1]')
        check_bounds(temperature=temperature)
        self.a = a
        self.w_kp = w_kp
        self.w_at = w_at
        self.temperature = temperature

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield self.forget_part(forget)
        yield self.removal_part(forget)
        yield self.retain_part(retain)

    def forget_part(self, forget: HalfBatch) -> dict[str, Tensor]:
        part = super().forget_part(forget)
        return {'loss_forget': (1 - self.a) * part['loss_forget']}

    def removal_part(self, forget: HalfBatch) -> dict[str, Tensor]:
        """What removes and preserves with the teacher's help."""
        teacher = self._teacher.sees(forget)
        push = map_distance(forget.features, teacher.features)
        # Classes alone: it is background that an object is to become.
        kl = distillation_loss(
            self.kept(forget.logits, background=False),
            self.kept(teacher.logits, background=False),
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
