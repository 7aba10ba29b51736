from gslora_mm.registry import METHODS
from .base import BaseMethod
from .ingredients.wrong_labels import WrongLabels
from .settings import NonNegative, PerStep


@METHODS.register_module()
class RandomLabels(BaseMethod):
    r"""Random labels for what is to be forgotten, and replay.

    "Amnesiac Machine Learning", AAAI 2021,
    https://arxiv.org/abs/2010.10981: the method called unlearning there.

    .. math::
        L = L_{retain} + \beta\, L(x_f, \tilde y), \quad
        \tilde y \sim \mathrm{Uniform}(\text{retained classes})

    The paper draws among all classes but the image's own. Here only those
    that the step retains are drawn: another forgotten class, of this step or
    an earlier one, would be taught again. Labels are drawn anew every time
    an image is seen, so that none of them is learned by heart. For a
    detector, a wrong name would be a false positive of another class, so
    that the objects become background.

    Args:
        beta: Weight of the forget half.
    """

    name = 'random_labels'
    forget_weight = 'beta'
    beta: PerStep[NonNegative] = 1.0

    def prepare(self, model, dataset):
        self.wrong_labels = WrongLabels(model, dataset)

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * self.wrong_labels.loss(forget)}
        yield {'loss_retain': retain.loss}
