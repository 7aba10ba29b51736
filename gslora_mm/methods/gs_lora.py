from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor
from torch.optim import Optimizer

from gslora_mm.models.losses import group_sparsity_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .arguments import check_weights
from .bounded import BoundedForgetting
from gslora_mm.methods.ingredients.proximal import group_soft_threshold

if TYPE_CHECKING:
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch

SPARSITY = ('subgradient', 'proximal')


@METHODS.register_module()
class GSLoRA(BoundedForgetting):
    r"""Group-sparse LoRA.

    "Continual Forgetting for Pre-trained Vision Models", CVPR 2024,
    https://arxiv.org/abs/2403.11530.

    .. math::
        L = L_{retain} + \beta\, L_{forget} + \alpha_s\, L_{structure}

        L_{forget} = \mathrm{ReLU}(BND - CE_f) + L_{rest,f}, \quad
        L_{structure} = \sum_g \Vert \theta_g \Vert_2

    :math:`CE_f` is the classification loss of the forget batch, which is
    pushed up to the bound BND. :math:`L_{rest,f}` are its other losses - in
    detection those of the boxes -, which keep their sign; a classifier has
    none. :math:`\theta_g` are the LoRA matrices of one Transformer block.

    With ``sparsity='proximal'`` the group lasso is not a term of the loss
    but a proximal step after each optimizer step (see
    :func:`~gslora_mm.methods.ingredients.proximal.group_soft_threshold`), which has the
    same stationary points and reaches exact zeros; a subgradient only
    hovers around them.

    Args:
        beta (float): Weight of the forgetting loss; a list in a config has
            one value a step. Defaults to 0.15 (COCO, step 1).
        bound (float): BND, the classification loss at which a class counts
            as forgotten. Defaults to 15.0 (COCO).
        alpha_s (float): Weight of the group sparsity; a list in a config
            has one value a step. Defaults to 3e-4 (COCO).
        warmup_iters (int): Iterations at the start of a step in which
            ``alpha_s`` counts as 0. Defaults to 0.
        warmup_epochs (int): The same in passes over the retain images; the
            longer of the two counts. Defaults to 0.
        sparsity (str): ``'subgradient'`` (the papers) or ``'proximal'``.
            Defaults to ``'subgradient'``.
    """

    name = 'gs_lora'
    per_step = (
        *BoundedForgetting.per_step,
        'alpha_s',
        'warmup_iters',
        'warmup_epochs',
    )

    def __init__(
        self,
        beta: float = 0.15,
        bound: float = 15.0,
        alpha_s: float = 3e-4,
        warmup_iters: int = 0,
        warmup_epochs: int = 0,
        sparsity: str = 'subgradient',
    ) -> None:
        super().__init__(beta, bound)
        check_weights(
            alpha_s=alpha_s,
            warmup_iters=warmup_iters,
            warmup_epochs=warmup_epochs,
        )
        if sparsity not in SPARSITY:
            raise ConfigError(
                f'method.sparsity = {sparsity!r}: must be one of {SPARSITY}'
            )
        self.alpha_s = alpha_s
        self.warmup_iters = warmup_iters
        self.warmup_epochs = warmup_epochs
        self.sparsity = sparsity
        self._groups: dict[str, list[Tensor]] = {}
        self._optimizer_steps: float | None = None

    def setup(self, model: ForgettingModel) -> None:
        if not model.groups:
            raise ConfigError(
                f'adapter = None: {type(self).__name__} needs an adapter, '
                'for example adapter = dict(rank=8)'
            )
        self._groups = model.groups

    @property
    def current_alpha_s(self) -> float:
        """``alpha_s`` in the present iteration, 0 during the warm-up."""
        warmup = max(
            self.warmup_iters, self.warmup_epochs * self.iterations_per_epoch
        )
        return self.alpha_s if self.iteration >= warmup else 0.0

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield from super().losses(forget, retain)
        yield self.structure_part()

    def structure_part(self) -> dict[str, Tensor]:
        """The term of the adapter alone."""
        structure = group_sparsity_loss(self._groups)
        part = {'structure': structure.detach()}
        if self.sparsity == 'subgradient':
            part['loss_structure'] = self.current_alpha_s * structure
        return part

    def after_update(self, optimizer: Optimizer) -> None:
        if self.sparsity != 'proximal' or not self.current_alpha_s:
            return
        # Mixed precision skips the optimizer's step when gradients overflow.
        steps = [
            float(s['step']) for s in optimizer.state.values() if 'step' in s
        ]
        stepped = not steps or steps[0] != self._optimizer_steps
        self._optimizer_steps = steps[0] if steps else None
        if stepped:
            for group in self._groups.values():
                group_soft_threshold(group, optimizer, self.current_alpha_s)
