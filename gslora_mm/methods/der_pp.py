from gslora_mm.registry import METHODS
from .der import DER
from .settings import NonNegative, PerStep


@METHODS.register_module()
class DERPP(DER):
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
        beta, alpha: As in :class:`DER`.
        gamma: Weight of the replayed labels, :math:`\beta` of the paper.
    """

    name = 'der_pp'
    gamma: PerStep[NonNegative] = 0.5

    def replayed(self, retain):
        return self.gamma * retain.loss_cls + retain.loss_rest
