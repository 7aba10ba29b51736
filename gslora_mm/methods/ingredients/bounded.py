from collections.abc import Callable

from torch import Tensor

from gslora_mm.tasks import HalfBatch
from gslora_mm.utils.distributed import mean_over_processes


def bounded_forgetting(
    forget: HalfBatch, loss: Callable[[Tensor], Tensor], beta: float
) -> dict[str, Tensor]:
    r"""Terms of the forget half in GS-LoRA and its kin.

    .. math::
        \beta\, L_{forget}, \quad
        L_{forget} = \mathrm{ReLU}(BND - CE_f) + L_{rest,f}

    Where the model's loss has more than a classification term (boxes), these
    keep their sign for the forget half and take part with weight
    :math:`\beta`.

    Args:
        forget (HalfBatch): The forget half.
        loss (Callable): Pushes :math:`CE_f` up to the bound, as
            :class:`~gslora_mm.models.losses.BoundedForgettingLoss`.
        beta (float): Weight of the forget half.

    Returns:
        dict[str, Tensor]: A part of a method's losses.
    """
    # The bound is for the mean over the joint batch of all processes,
    # so that their number does not change what is trained.
    ce = mean_over_processes({'ce': forget.loss_cls})['ce']
    terms = {'loss_forget': beta * loss(ce), 'ce_forget': ce.detach()}
    rest = forget.loss_rest
    if isinstance(rest, Tensor):
        terms['loss_forget_rest'] = beta * rest
    return terms
