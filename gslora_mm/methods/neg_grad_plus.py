from typing import Annotated

from gslora_mm.registry import METHODS
from .base import BaseMethod
from .settings import PerStep, number

Alpha = Annotated[
    float,
    number('must be a number above 0 and below 1', lambda x: 0 < x < 1),
]


@METHODS.register_module()
class NegGradPlus(BaseMethod):
    r"""Descent on what is kept, ascent on what is forgotten (NegGrad+).

    "Towards Unbounded Machine Unlearning", NeurIPS 2023,
    https://arxiv.org/abs/2302.09880.

    .. math:: L = \alpha\, L_{retain} - (1 - \alpha)\, CE_f

    Neither half ever ends: nothing but :math:`\alpha` keeps the ascent from
    winning. A bounded one is :class:`GSLoRA` with ``alpha_s = 0``. The paper
    is about classifiers; of a detector's forget half, the box losses are
    left out.

    Args:
        alpha: Weight of what is kept, above 0 and below 1; the paper tunes
            it for each data set.
    """

    name = 'neg_grad_plus'
    ends_at_zero = False
    alpha: PerStep[Alpha] = 0.95

    def losses(self, forget, retain):
        ce = forget.loss_cls
        yield {
            'loss_forget': -(1 - self.alpha) * ce,
            'ce_forget': ce.detach(),
        }
        yield {'loss_retain': self.alpha * retain.loss}
