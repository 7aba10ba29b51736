from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from gslora_mm.models.losses import distillation_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.distributed import row_weight
from .arguments import check_weights
from .base import BaseMethod
from gslora_mm.methods.ingredients.teacher import Teacher

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch

MASKS = ('own', 'step')
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
        mask (str): What is masked: a row's ``'own'`` class (the paper), or
            all classes that the ``'step'`` forgets, so that none of them
            inherits from another. Defaults to ``'own'``.
        w_rest (float): Weight of the other losses of the forget half; a
            list in a config has one value a step. Defaults to 1.0.
    """

    name = 'delete'
    needs = ('forget',)
    per_step = ('w_rest',)

    def __init__(self, mask: str = 'own', w_rest: float = 1.0) -> None:
        super().__init__()
        if mask not in MASKS:
            raise ConfigError(
                f'method.mask = {mask!r}: must be one of {MASKS}'
            )
        check_weights(w_rest=w_rest)
        self.mask = mask
        self.w_rest = w_rest
        self._teacher: Teacher | None = None
        self._always_masked: list[int] = []

    def setup(self, model: ForgettingModel) -> None:
        self._teacher = Teacher(model)

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        if self.mask == 'step':
            self._always_masked = dataset.datasets[0].labels.tolist()

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        kl = distillation_loss(
            forget.logits, self.target(forget), activation=forget.activation
        )
        part = {'loss_forget': row_weight(forget.logits) * kl}
        rest = forget.loss_rest
        if isinstance(rest, Tensor):
            part['loss_forget_rest'] = self.w_rest * rest
        yield part

    def target(self, forget: HalfBatch) -> Tensor:
        """The teacher's logits, masked, shape (N, columns)."""
        logits = self._teacher.sees(forget).logits
        is_masked = F.one_hot(forget.labels, logits.shape[1]).bool()
        is_masked[:, self._always_masked] = True
        return logits.masked_fill(is_masked, MASKED)
