from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .gs_lora import GSLoRA

if TYPE_CHECKING:
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class KnowledgeSwapping(GSLoRA):
    r"""Knowledge Swapping: learn first, then forget.

    Xing et al., "Knowledge Swapping via Learning and Unlearning", ICML 2025,
    https://arxiv.org/abs/2502.08075.

    .. math::
        L = \begin{cases}
        L_{retain} + \alpha_s\, L_{structure} & \text{at first} \\
        L_{retain} + \beta\, L_{forget} + \alpha_s\, L_{structure} &
        \text{then}
        \end{cases}

    with the terms of :class:`GSLoRA`. What is to be learned comes with the
    retain half: ``forgetting.learn`` of a sequence names the classes. Learning
    goes from the low layers up and forgetting from the high ones down, so
    that this order disturbs less than the other one. Both stages train the
    same adapter, with one optimizer.

    Differences to the authors' code: new and retained classes share one
    replay buffer and one mean loss, where they take all images of the new
    ones; ``param_scheduler`` spans the step, where they begin again with the
    second stage; and of a detector, only the classification loss is pushed
    up, as in GS-LoRA, where they push its sum with the box losses.

    Args:
        beta (float): As in :class:`GSLoRA`. Defaults to 0.2.
        bound (float): As in :class:`GSLoRA`. Defaults to 15.0 (COCO).
        alpha_s (float): As in :class:`GSLoRA`. Defaults to 5e-3
            (classifiers; COCO has 1e-2).
        warmup_iters (int): As in :class:`GSLoRA`. Defaults to 0.
        warmup_epochs (int): As in :class:`GSLoRA`. Defaults to 0.
        sparsity (str): As in :class:`GSLoRA`. Defaults to
            ``'subgradient'``.
        learn_share (float): Share of a step's iterations before forgetting
            begins, in [0, 1); a list in a config has one value a step, 0
            where nothing is learned. Defaults to 0.5.
    """

    name = 'knowledge_swapping'
    per_step = (*GSLoRA.per_step, 'learn_share')

    def __init__(
        self,
        beta: float = 0.2,
        bound: float = 15.0,
        alpha_s: float = 5e-3,
        warmup_iters: int = 0,
        warmup_epochs: int = 0,
        sparsity: str = 'subgradient',
        learn_share: float = 0.5,
    ) -> None:
        super().__init__(
            beta, bound, alpha_s, warmup_iters, warmup_epochs, sparsity
        )
        if not isinstance(learn_share, int | float) or not (
            0 <= learn_share < 1
        ):
            raise ConfigError(
                f'method.learn_share = {learn_share!r}: must be a number in '
                '[0, 1): the rest of the iterations forgets'
            )
        self.learn_share = learn_share

    @property
    def is_learning(self) -> bool:
        """Whether the present iteration comes before any forgetting."""
        return self.iteration < self.learn_share * self.max_iters

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        if not self.is_learning:
            yield self.forget_part(forget)
        yield self.retain_part(retain)
        yield self.structure_part()
