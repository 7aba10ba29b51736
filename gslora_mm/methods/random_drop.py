from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .arguments import check_seeds
from .base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


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
        max_share (float): :math:`r_{max}`, the largest share of a tensor, of
            which half is dropped on average; a list in a config has one
            value a step. Defaults to 0.2.
        seed (int): What the draw follows from, the same weights in every
            step; a list in a config has one value a step. Defaults to 0.
    """

    name = 'random_drop'
    needs = ('retain',)
    per_step = ('max_share', 'seed')

    def __init__(self, max_share: float = 0.2, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(max_share, int | float) or not 0 <= max_share <= 1:
            raise ConfigError(
                f'method.max_share = {max_share!r}: must be a number in [0, 1]'
            )
        check_seeds(seed=seed)
        self.max_share = max_share
        self.seed = seed

    @torch.no_grad()
    def setup(self, model: ForgettingModel) -> None:
        if model.groups:
            raise ConfigError(
                'adapter must be None for RandomDrop: it drops weights of '
                'the model itself'
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

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield {'loss_retain': retain.loss}
