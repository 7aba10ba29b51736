from gslora_mm.models.losses import bounded_forgetting_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import mean_over_processes
from .base import BaseMethod
from .settings import PerStep, Positive


@METHODS.register_module()
class GradientAscent(BaseMethod):
    r"""Gradient ascent on what is to be forgotten (NegGrad).

    "Eternal Sunshine of the Spotless Net", CVPR 2020,
    https://arxiv.org/abs/1911.04933, which has it as a baseline.

    .. math:: L = -CE_f

    Nothing else is looked at: no retain image is needed, and none protects
    the rest. :math:`CE_f` is the classification loss; the box losses of a
    detector are left out. To push boxes away, as the public code of GS-LoRA
    does, forgets no class.

    The loss has no lower end. Published uses stop the ascent early or take
    tiny learning rates; with ``bound`` it ends by itself, and
    :math:`L = \mathrm{ReLU}(BND - CE_f)` has the same gradient up to there.

    Args:
        bound: BND, the classification loss at which the ascent ends; None
            is never.
    """

    name = 'gradient_ascent'
    needs = ('forget',)
    bound: PerStep[Positive | None] = None

    def losses(self, forget, retain):
        # The bound is for the joint batch of all processes.
        ce = mean_over_processes({'ce': forget.loss_cls})['ce']
        loss = -ce
        if self.bound is not None:
            loss = bounded_forgetting_loss(ce, self.bound)
        yield {'loss_forget': loss, 'ce_forget': ce.detach()}
