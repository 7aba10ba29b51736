import torch

from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class FDR(BaseMethod):
    r"""Function Distance Regularisation.

    Benjamin, Rolnick and Kording, "Measuring and Regularizing Networks in
    Function Space", ICLR 2019, https://arxiv.org/abs/1805.08289.

    .. math::
        L = \beta\, L_{forget} + \alpha\, \mathrm{mean}_i\,
        \Vert \sigma(s_i) - \sigma(t_i) \Vert_2

    The distance is that of output distributions: a softmax over the kept
    classes, or their sigmoids. As in the implementations in use it is the
    mean of norms, not squared; at its kink, the teacher, its gradient counts
    as zero. Class labels of the retain half do not enter. A detector keeps
    the losses that no logits of a row could stand in for: of boxes, of
    queries without an object, and of earlier layers where ``task.aux_loss``
    counts them; in these last ones, the labels of objects do enter.

    (The public code of GS-LoRA's tables takes logits for outputs, and for
    detectors the distance over queries in place of classes.)

    Args:
        beta: Weight of the forget half.
        alpha: Weight of the distance.
    """

    name = 'fdr'
    can_learn = False  # the teacher has not
    beta: PerStep[NonNegative] = 1.0
    alpha: PerStep[NonNegative] = 1.0

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.teacher = Teacher(model, dataset)

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        student, teacher = self.teacher.kept_logits(retain)
        if retain.activation == 'softmax':
            difference = student.softmax(1) - teacher.softmax(1)
        else:
            difference = student.sigmoid() - teacher.sigmoid()
        norms = torch.linalg.vector_norm(difference, dim=1)
        distance = row_weight(student) * (norms.sum() / max(len(norms), 1))
        replay = retain.loss_background + retain.loss_rest
        yield {
            'loss_retain': self.alpha * distance + replay,
            'distance_retain': distance.detach(),
        }
