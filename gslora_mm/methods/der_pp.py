from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class DERPP(BaseMethod):
    r"""DER++: Dark Experience Replay, and labels.

    Buzzega, Boschini, Porrello, Abati and Calderara, "Dark Experience for
    General Continual Learning", NeurIPS 2020,
    https://arxiv.org/abs/2004.07211.

    .. math::
        L = \beta\, L_{forget} + \alpha\, \mathrm{mean}_{ik}\,
        (s_{ik} - t_{ik})^2 + \gamma\, CE_{retain}

    :class:`DER` with the classification loss of the retain half. The
    original draws the images of the two terms apart; a step has one retain
    half an iteration, which serves both.

    Args:
        beta: Weight of the forget half.
        alpha: Weight of the replayed logits; the paper tunes it for each
            data set.
        gamma: Weight of the replayed labels, :math:`\beta` of the paper.
    """

    name = 'der_pp'
    can_learn = False  # the teacher has not
    beta: PerStep[NonNegative] = 1.0
    alpha: PerStep[NonNegative] = 0.5
    gamma: PerStep[NonNegative] = 0.5

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.teacher = Teacher(model, dataset)

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        student, teacher = self.teacher.kept_logits(retain)
        # Not mse_loss, which is not a number without rows.
        square = (student - teacher).square().sum() / max(student.numel(), 1)
        distance = row_weight(student) * square
        replay = self.gamma * retain.loss_cls + retain.loss_rest
        yield {
            'loss_retain': self.alpha * distance + replay,
            'distance_retain': distance.detach(),
        }
