from torch import Tensor


def bounded_forgetting_loss(loss: Tensor, bound: float) -> Tensor:
    r"""Push a loss up, but only to a bound.

    .. math:: L_{forget} = \mathrm{ReLU}(BND - L)

    Its gradient is that of :math:`-L` below the bound and zero from there
    on, so that forgetting cannot run away (GS-LoRA, Eq. 5).

    Args:
        loss (Tensor): The loss on the forget batch, any shape.
        bound (float): The bound BND, positive.

    Returns:
        Tensor: Same shape as ``loss``.

    Raises:
        ValueError: If the bound is not positive.
    """
    if bound <= 0:
        raise ValueError(f'bound must be positive, got {bound}')
    return (bound - loss).relu()
