from typing import Annotated

from gslora_mm.registry import METHODS
from .gs_lora import GSLoRA
from .ingredients.bounded import bounded_forgetting
from .settings import NonNegative, PerStep, number

LearnShare = Annotated[
    float,
    number(
        'must be a number in [0, 1): the rest of the iterations forgets',
        lambda x: 0 <= x < 1,
    ),
]


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
        beta: Weight of the forgetting loss.
        alpha_s: Weight of the group sparsity, for classifiers (COCO: 1e-2).
        learn_share: Share of a step's iterations before forgetting begins,
            0 where nothing is learned.
        bound, warmup_iters, warmup_epochs, sparsity: As in :class:`GSLoRA`.
        loss_forget, loss_structure: As there.
    """

    name = 'knowledge_swapping'
    beta: PerStep[NonNegative] = 0.2
    alpha_s: PerStep[NonNegative] = 5e-3
    learn_share: PerStep[LearnShare] = 0.5

    @classmethod
    def forgets_at_once(cls):
        return False

    @property
    def is_learning(self) -> bool:
        """Whether the present iteration comes before any forgetting."""
        return self.iteration < self.learn_share * self.max_iters

    def losses(self, forget, retain):
        if not self.is_learning:
            yield bounded_forgetting(forget, self.forgetting_loss, self.beta)
        yield {'loss_retain': retain.loss}
        yield self.structure()
