import torch

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .base import BaseMethod
from .settings import PerStep, Seed, Share


@METHODS.register_module()
class RandomDrop(BaseMethod):
    r"""Random weights are set to zero, then what is kept is fine-tuned.

    A control without a paper of its own: whether damage as such, repaired
    where there is data, passes for forgetting. At the start of a step, of
    each tensor of trainable parameters

    .. math::
        \theta_i \leftarrow 0 \quad (i \in S), \qquad
        |S| = \lfloor r\, |\theta| \rfloor, \qquad
        r \sim \mathrm{Uniform}(0, r_{max})

    with S drawn without replacement, as in the public code of GS-LoRA
    (https://arxiv.org/abs/2403.11530), which ends there; then
    :math:`L = L_{retain}`, in which the weights may grow again. (A learning
    rate of 0 gives what the public code does.)

    Args:
        max_share: :math:`r_{max}`, the largest share of a tensor, of which
            half is dropped on average.
        seed: What the draw follows from, the same weights in every step.
    """

    name = 'random_drop'
    needs = ('retain',)
    max_share: PerStep[Share] = 0.2
    seed: PerStep[Seed] = 0

    @torch.no_grad()
    def setup(self, model):
        if model.groups:
            raise ConfigError(
                'adapter',
                valid='must be None for RandomDrop: it drops weights of the '
                'model itself',
            )
        generator = torch.Generator().manual_seed(self.seed)
        for parameter in model.model.parameters():
            if not parameter.requires_grad:
                continue
            size = parameter.numel()
            share = self.max_share * torch.rand((), generator=generator)
            order = torch.randperm(size, generator=generator)
            dropped = order.to(parameter.device) < int(share * size)
            parameter.masked_fill_(dropped.view_as(parameter), 0)

    def losses(self, forget, retain):
        yield {'loss_retain': retain.loss}
