from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from .arguments import check_bounds
from .distillation import Distillation

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class LwF(Distillation):
    r"""Learning without Forgetting, on replay data.

    Li and Hoiem, "Learning without Forgetting", ECCV 2016, T-PAMI 2018,
    https://arxiv.org/abs/1606.09282.

    .. math::
        L = L_{retain} + \beta\, L_{forget} + \alpha\,
        \mathrm{KL}(\sigma(t / T) \,\Vert\, \sigma(s / T))

    The original distils on the images of the new task, having no others. To
    hold the forget images to the teacher would keep what is to be forgotten;
    here, as in the tables of GS-LoRA, distillation is on the replayed retain
    images, next to their own loss. Its cross-entropy with softened targets
    is this divergence plus a constant; as there, no factor :math:`T^2`. What
    the teacher says of the classes to forget is left out.

    (The public code of these tables takes the logarithm of logarithms here.
    That is not a number, it replaces it by zero, and so never distils.)

    Args:
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 0.1, as the replay loss counts ten
            times in these tables.
        alpha (float): Weight of the distillation; a list in a config has
            one value a step. Defaults to 1.0.
        temperature (float): T. Defaults to 2.0 (the paper).
    """

    name = 'lwf'

    def __init__(
        self, beta: float = 0.1, alpha: float = 1.0, temperature: float = 2.0
    ) -> None:
        super().__init__(beta, alpha)
        check_bounds(temperature=temperature)
        self.temperature = temperature

    def replay(self, retain: HalfBatch) -> Tensor:
        return retain.loss

    def distance(
        self, student: Tensor, teacher: Tensor, activation: str
    ) -> Tensor:
        return distillation_loss(
            student, teacher, self.temperature, activation
        )
