from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from gslora_mm.utils import ConfigError

# Newton's method below converges monotonically; four to six steps reach
# float64 precision on the groups of real runs.
NEWTON_STEPS = 10


class ProximalSteps:
    """A proximal step of each group after each step of the optimizer.

    Mixed precision skips the optimizer's step when gradients overflow; then
    there is no proximal step either.
    """

    def __init__(self) -> None:
        self._optimizer_steps: float | None = None

    def step(
        self,
        groups: Iterable[Sequence[Tensor]],
        optimizer: Optimizer,
        weight: float,
    ) -> None:
        r"""Shrink all groups, see :func:`group_soft_threshold`.

        Args:
            groups (Iterable[Sequence[Tensor]]): Parameters by group.
            optimizer (Optimizer): The optimizer, after its step.
            weight (float): :math:`\alpha_s`, not negative.
        """
        steps = [
            float(s['step']) for s in optimizer.state.values() if 'step' in s
        ]
        was_skipped = steps and steps[0] == self._optimizer_steps
        self._optimizer_steps = steps[0] if steps else None
        if not was_skipped:
            for group in groups:
                group_soft_threshold(group, optimizer, weight)


@torch.no_grad()
def group_soft_threshold(
    group: Sequence[Tensor], optimizer: Optimizer, weight: float
) -> None:
    r"""Proximal step of ``weight * ||group||_2`` after an optimizer step.

    .. math::
        \theta_g \leftarrow \arg\min_x \; \alpha_s \Vert x \Vert_2
        + \tfrac{1}{2\eta} (x - \theta_g)^\top D\, (x - \theta_g)

    in the metric of the optimizer (ProxGen, NeurIPS 2021,
    https://arxiv.org/abs/2007.07484): D is the identity for SGD and
    :math:`\mathrm{diag}(\sqrt{\hat v} + \epsilon)`, what gradients are
    divided by, for the Adam family. Only so has the step the stationary
    points of the loss with the group lasso inside, and ``weight`` the same
    scale. With :math:`c = \eta\,\alpha_s / D`, entry by entry, the solution
    is zero if :math:`\Vert \theta_g / c \Vert_2 \le 1` and otherwise
    :math:`\theta_g\, t / (t + c)`, where its norm t solves
    :math:`\Vert \theta_g / (t + c) \Vert_2 = 1`. For SGD this is block
    soft-thresholding, :math:`\theta_g (1 - c / \Vert \theta_g \Vert_2)`.

    Gradient clipping scales the gradients that Adam averages, and with them
    the weight that a group has to withstand; ``weight`` is then relative to
    the clipped gradients.

    A group that has reached zero stays there: with A = B = 0 both gradients
    of a LoRA vanish, and the momentum of Adam or SGD is cleared.

    In the first iterations D says little: B is still zero, A has no gradient
    yet, and its D is almost zero, so that the step would take its random
    initialisation away. ``warmup_iters`` of :class:`GSLoRA` is for this.

    Args:
        group (Sequence[Tensor]): The parameters of one group, changed in
            place.
        optimizer (Optimizer): The optimizer, after its step.
        weight (float): :math:`\alpha_s`, not negative.

    Raises:
        ConfigError: If it is not known what the optimizer divides by.
    """
    settings = _param_group(group, optimizer)
    adaptive = 'betas' in settings
    if not settings['lr'] or not weight:
        return
    if adaptive and any(p not in optimizer.state for p in group):
        return  # mixed precision may skip the very first steps
    theta = torch.cat([parameter.flatten() for parameter in group]).double()
    c = weight * _step_sizes(group, optimizer, settings)
    # 1 / ||theta / (t + c)|| is concave and nearly linear in t, as in the
    # secular equation of trust-region methods, so that Newton's method comes
    # from the left without overshooting.
    t = theta.new_zeros(())
    is_zero = (theta / c).square().sum() <= 1
    for _ in range(NEWTON_STEPS):
        squares = (theta / (t + c)).square()
        h = squares.sum()
        t = t + (h.sqrt() - 1) * h / (squares / (t + c)).sum()
    shrunk = torch.where(is_zero, 0.0, theta * t / (t + c))
    sizes = [parameter.numel() for parameter in group]
    for parameter, values in zip(group, shrunk.split(sizes), strict=True):
        parameter.copy_(values.view_as(parameter))
        for momentum in ('exp_avg', 'momentum_buffer'):
            # It would carry a zero group away again.
            buffer = optimizer.state.get(parameter, {}).get(momentum)
            if buffer is not None:
                buffer.mul_(~is_zero)


def _param_group(group: Sequence[Tensor], optimizer: Optimizer) -> dict:
    """The optimizer's settings for a group."""
    ids = {id(parameter) for parameter in group}
    return next(
        param_group
        for param_group in optimizer.param_groups
        if any(id(p) in ids for p in param_group['params'])
    )


def _step_sizes(
    group: Sequence[Tensor], optimizer: Optimizer, settings: dict
) -> Tensor:
    """Learning rate over D for every entry of a group, in float64."""
    lr = float(settings['lr'])
    sizes = []
    for parameter in group:
        size = torch.full_like(parameter, lr, dtype=torch.float64)
        if 'betas' in settings:
            state = optimizer.state[parameter]
            if 'exp_avg_sq' not in state:
                raise ConfigError(
                    'schedule.optim_wrapper.optimizer.type',
                    type(optimizer).__name__,
                    'sparsity by proximal steps needs SGD or one of the Adam '
                    'family',
                )
            correction = 1 - settings['betas'][1] ** float(state['step'])
            root = (state['exp_avg_sq'].double() / correction).sqrt()
            size /= root + settings['eps']
        sizes.append(size.flatten())
    return torch.cat(sizes)
