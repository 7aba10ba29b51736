from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from gslora_mm.models.losses.group_sparsity import group_norm


@torch.no_grad()
def group_soft_threshold(
    group: Sequence[Tensor], optimizer: Optimizer, weight: float
) -> None:
    r"""Proximal step of ``weight * ||group||_2`` after an optimizer step.

    .. math::
        \theta_g \leftarrow \theta_g
        \max\Bigl(0, 1 - \frac{\eta_g\,\alpha_s}{\Vert\theta_g\Vert_2}\Bigr)

    The step size :math:`\eta_g` is that of the optimizer, in its own metric
    (ProxGen, NeurIPS 2021, https://arxiv.org/abs/2003.03325): ``lr`` for
    SGD; for the Adam family ``lr`` over the group's mean of
    :math:`\sqrt{\hat v} + \epsilon`, which Adam divides gradients by. Only
    so has the step the same stationary points as the loss with the group
    lasso inside - a group is zero where the gradient of the rest of the
    loss is smaller than ``weight`` - and ``weight`` the same scale. (The
    preconditioner is averaged over a group because block soft-thresholding
    has a closed form for scalars only.)

    Gradient clipping scales the gradients that Adam averages, and with them
    the weight that a group has to withstand; ``weight`` is then relative to
    the clipped gradients.

    A group that has reached zero stays there: with A = B = 0 both gradients
    of a LoRA vanish.

    Args:
        group (Sequence[Tensor]): The parameters of one group, changed in
            place.
        optimizer (Optimizer): The optimizer, after its step.
        weight (float): :math:`\alpha_s`.
    """
    norm = group_norm(group)
    if norm == 0:
        return
    step_size = _mean_step_size(group, optimizer)
    shrink = (1 - step_size * weight / norm).clamp_(min=0)
    for parameter in group:
        parameter.mul_(shrink)


def _mean_step_size(
    group: Sequence[Tensor], optimizer: Optimizer
) -> float | Tensor:
    """Step size of the optimizer for a group, see above."""
    ids = {id(parameter) for parameter in group}
    settings = next(
        param_group
        for param_group in optimizer.param_groups
        if any(id(p) in ids for p in param_group['params'])
    )
    lr = float(settings['lr'])
    if 'betas' not in settings:
        return lr
    beta2, eps = settings['betas'][1], settings['eps']
    roots = []
    for parameter in group:
        state = optimizer.state[parameter]
        correction = 1 - beta2 ** float(state['step'])
        roots.append((state['exp_avg_sq'] / correction).sqrt_().flatten())
    return lr / (torch.cat(roots).mean() + eps)
