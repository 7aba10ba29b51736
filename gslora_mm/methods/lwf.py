from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep, Positive


@METHODS.register_module()
class LwF(BaseMethod):
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
        beta: Weight of the forget half: the replay loss counts ten times
            in these tables.
        alpha: Weight of the distillation.
        temperature: T, 2 in the paper.
    """

    name = 'lwf'
    can_learn = False  # the teacher has not
    beta: PerStep[NonNegative] = 0.1
    alpha: PerStep[NonNegative] = 1.0
    temperature: PerStep[Positive] = 2.0

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)
        self.teacher = Teacher(model, dataset)

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        student, teacher = self.teacher.kept_logits(retain)
        distance = row_weight(student) * distillation_loss(
            student, teacher, self.temperature, retain.activation
        )
        yield {
            'loss_retain': self.alpha * distance + retain.loss,
            'distance_retain': distance.detach(),
        }
