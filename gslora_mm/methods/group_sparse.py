from typing import Literal

from gslora_mm.models.losses import GroupSparsityLoss
from gslora_mm.utils import ConfigError
from .base import BaseMethod
from .ingredients.losses import LossConfig, build_loss
from .ingredients.proximal import ProximalSteps
from .settings import NonNegative, PerStep, Whole


class GroupSparse(BaseMethod):
    r"""A method that keeps its changes to few Transformer blocks.

    .. math::
        \alpha_s\, L_{structure}, \quad
        L_{structure} = \sum_g \Vert \theta_g \Vert_2

    with the LoRA matrices :math:`\theta_g` of one Transformer block (GS-LoRA,
    https://arxiv.org/abs/2403.11530). A model without an adapter has no
    groups, and no such term.

    With ``sparsity='proximal'`` the group lasso is not a term of the loss
    but a proximal step after each optimizer step
    (:func:`~gslora_mm.methods.group_soft_threshold`), which has the same
    stationary points and reaches exact zeros; a subgradient only hovers
    around them.

    Args:
        alpha_s: Weight of the group sparsity (COCO).
        warmup_iters: Iterations at the start of a step in which ``alpha_s``
            counts as 0.
        warmup_epochs: The same in passes over the retain images; the longer
            of the two counts.
        sparsity: ``'subgradient'`` (the papers) or ``'proximal'``.
        loss_structure: Type or config of the module that gives
            :math:`L_{structure}` for the groups.
    """

    alpha_s: PerStep[NonNegative] = 3e-4
    warmup_iters: PerStep[Whole] = 0
    warmup_epochs: PerStep[NonNegative] = 0
    sparsity: Literal['subgradient', 'proximal'] = 'subgradient'
    loss_structure: LossConfig = 'gslora_mm.GroupSparsityLoss'

    def __post_init__(self):
        super().__post_init__()
        self.structure_loss = build_loss(
            'method.loss_structure', self.loss_structure
        )
        # A subclass would be another loss, with other proximal steps.
        is_group_norm = type(self.structure_loss) is GroupSparsityLoss
        if self.sparsity == 'proximal' and not is_group_norm:
            raise ConfigError(
                'method.loss_structure',
                self.loss_structure,
                "the steps of method.sparsity = 'proximal' are those of "
                'gslora_mm.GroupSparsityLoss; leave one of the two out',
            )
        self.proximal = ProximalSteps()

    def setup(self, model):
        self.groups = model.groups

    @property
    def current_alpha_s(self) -> float:
        """``alpha_s`` in the present iteration, 0 during the warm-up."""
        warmup = max(
            self.warmup_iters, self.warmup_epochs * self.iterations_per_epoch
        )
        return self.alpha_s if self.iteration >= warmup else 0.0

    def structure(self):
        """The terms of the adapter alone; there has to be one."""
        structure = self.structure_loss(self.groups)
        terms = {'structure': structure.detach()}
        if self.sparsity == 'subgradient':
            terms['loss_structure'] = self.current_alpha_s * structure
        return terms

    def after_update(self, optimizer):
        if self.sparsity == 'proximal' and self.current_alpha_s:
            weight = self.current_alpha_s * self.structure_loss.loss_weight
            self.proximal.step(self.groups.values(), optimizer, weight)
