from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class DER(BaseMethod):
    r"""Dark Experience Replay.

    Buzzega, Boschini, Porrello, Abati and Calderara, "Dark Experience for
    General Continual Learning", NeurIPS 2020,
    https://arxiv.org/abs/2004.07211.

    .. math::
        L = \beta\, L_{forget} + \alpha\, \mathrm{mean}_{ik}\,
        (s_{ik} - t_{ik})^2

    over images (matched queries) i and kept classes k. Replay is by logits
    alone: the class labels of the retain half do not enter. A detector keeps
    the losses that no logits of a row could stand in for: of boxes, of
    queries without an object, and of earlier layers where ``task.aux_loss``
    counts them; in these last ones, the labels of objects do enter.

    The original stores logits with the images of its buffer, as they were
    when an image came by. Here they are those of the model when the step
    begins, for any augmentation: in the first step the same, in later ones
    those of a model that has forgotten what was asked before.
    The public code of GS-LoRA's tables compares embeddings for classifiers;
    this is the original.

    Args:
        beta: Weight of the forget half, 1 in the paper.
        alpha: Weight of the replayed logits; the paper tunes it for each
            data set.
    """

    name = 'der'
    can_learn = False  # the teacher has not
    beta: PerStep[NonNegative] = 1.0
    alpha: PerStep[NonNegative] = 0.5

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.teacher = Teacher(model, dataset)

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        student, teacher = self.teacher.kept_logits(retain)
        # Not mse_loss, which is not a number without rows.
        square = (student - teacher).square().sum() / max(student.numel(), 1)
        distance = row_weight(student) * square
        yield {
            'loss_retain': self.alpha * distance + self.replayed(retain),
            'distance_retain': distance.detach(),
        }

    def replayed(self, retain):
        """What the retain half is held to beside the teacher's logits."""
        return retain.loss_background + retain.loss_rest
