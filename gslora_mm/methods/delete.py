from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import row_weight
from .base import BaseMethod
from .ingredients.teacher import Teacher
from .settings import NonNegative, PerStep

#: A logit whose probability is exactly 0. Minus infinity would make the
#: divergence 0 times infinity.
MASKED = -1e4


@METHODS.register_module()
class DELETE(BaseMethod):
    r"""Masked distillation, without any retain data.

    Zhou et al., "Decoupled Distillation to Erase: A General Unlearning
    Method for Any Class-centric Tasks", CVPR 2025,
    https://arxiv.org/abs/2503.23751.

    .. math::
        L = \mathrm{mean}_i\, \mathrm{KL}(\sigma(\mathrm{mask}(t_i))
        \,\Vert\, \sigma(s_i)) + w_{rest}\, L_{rest,f}

    with logits :math:`s` of the model and :math:`t` of the model as it was
    when the step began, on the rows of the forget half. The mask sets the
    logit of a row's own class to minus infinity. With a softmax the target
    is what the teacher says with that class ruled out, renormalised: the
    other classes, and the background of a detector, keep their proportions.
    With a sigmoid - a case that the paper does not have - every class is a
    distribution of its own, over yes and no: the own class has the target 0,
    the object turns into background, and the other classes have the
    teacher's probabilities.

    Choices: The paper unlearns from the trained model once; in a sequence,
    the teacher is the model that a step starts from. What the other losses
    of the forget half (boxes) hold on to is not what is to be forgotten,
    and as no other data are there to hold the boxes, these losses take part
    with their sign, as in :class:`GSLoRA`; a classifier has none.

    Args:
        mask: What is masked: a row's ``'own'`` class (the paper), or all
            classes that the ``'step'`` forgets, so that none of them
            inherits from another.
        w_rest: Weight of the other losses of the forget half.
    """

    name = 'delete'
    needs = ('forget',)
    mask: Literal['own', 'step'] = 'own'
    w_rest: PerStep[NonNegative] = 1.0

    def prepare(self, model, dataset):
        self.teacher = Teacher(model, dataset)
        labels = dataset.datasets[0].labels.tolist()
        self.always_masked = labels if self.mask == 'step' else []

    def losses(self, forget, retain):
        kl = distillation_loss(
            forget.logits, self.target(forget), activation=forget.activation
        )
        terms = {'loss_forget': row_weight(forget.logits) * kl}
        rest = forget.loss_rest
        if isinstance(rest, Tensor):
            terms['loss_forget_rest'] = self.w_rest * rest
        yield terms

    def target(self, forget):
        """The teacher's logits, masked, shape (N, columns)."""
        logits = self.teacher.sees(forget).logits
        is_masked = F.one_hot(forget.labels, logits.shape[1]).bool()
        is_masked[:, self.always_masked] = True
        return logits.masked_fill(is_masked, MASKED)
