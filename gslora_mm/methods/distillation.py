from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.utils.distributed import row_weight
from .arguments import check_weights
from .relabelled import RelabelledForgetting
from gslora_mm.methods.ingredients.teacher import Taught

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


class Distillation(Taught, RelabelledForgetting):
    r"""What methods share that hold the retain half to a teacher.

    .. math::
        L = \beta\, L_{forget} + \alpha\, D(s, t) + L_{replay}

    with logits :math:`s` of the model and :math:`t` of the model as it was
    when the step began, on the same rows of the retain half: images of a
    classifier; queries of a detector's last decoder layer that are matched
    to an object. Columns are the classes that are not forgotten in this step,
    and the background of a detector with a softmax
    (:meth:`~gslora_mm.methods.ingredients.teacher.Taught.kept`).

    :math:`L_{replay}` is what a method takes of the model's own loss on the
    retain half. By default these are the losses that no logits of a row
    could stand in for; a classifier has none. A detector has those of the
    boxes, of queries without an object, and of earlier layers where they
    count (``task.aux_loss``); in the latter, the labels of objects do enter.

    Args:
        beta (float): Weight of the forget half.
        alpha (float): Weight of the distance to the teacher.
    """

    per_step = (*RelabelledForgetting.per_step, 'alpha')

    def __init__(self, beta: float, alpha: float) -> None:
        super().__init__(beta)
        check_weights(alpha=alpha)
        self.alpha = alpha

    def retain_part(self, retain: HalfBatch) -> dict[str, Tensor]:
        teacher = self.kept(self._teacher.sees(retain).logits).float()
        student = self.kept(retain.logits).float()
        distance = self.distance(student, teacher, retain.activation)
        distance = row_weight(student) * distance
        return {
            'loss_retain': self.alpha * distance + self.replay(retain),
            'distance_retain': distance.detach(),
        }

    def replay(self, retain: HalfBatch) -> Tensor | int:
        """What is taken of the model's own loss, a scalar."""
        return retain.loss_background + retain.loss_rest

    @abstractmethod
    def distance(
        self, student: Tensor, teacher: Tensor, activation: str
    ) -> Tensor:
        """How far the student is from the teacher, zero without rows.

        Args:
            student (Tensor): Logits, shape (N, classes).
            teacher (Tensor): Logits, the same shape, without gradients.
            activation (str): ``'softmax'`` or ``'sigmoid'``.

        Returns:
            Tensor: Scalar.
        """
