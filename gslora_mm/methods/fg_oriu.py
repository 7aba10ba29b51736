from typing import Annotated

import torch

from gslora_mm.lora import lora_layers
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .base import BaseMethod
from .ingredients.bounded import bounded_forgetting
from .ingredients.losses import LossConfig, build_loss
from .ingredients.subspaces import (
    FEATURES,
    joint_basis,
    norm_outside,
    nuclear_norm_inside,
    project_out,
    replay_subspaces,
)
from .settings import Count, NonNegative, PerStep, Positive, number

Energy = Annotated[
    float, number('must be a number in (0, 1)', lambda x: 0 < x < 1)
]


@METHODS.register_module()
class FGOrIU(BaseMethod):
    r"""FG-OrIU: orthogonal features, and orthogonal gradients.

    Feng et al., "FG-OrIU: Towards Better Forgetting via Feature-Gradient
    Orthogonality for Incremental Unlearning", ICCV 2025,
    https://arxiv.org/abs/2601.13578.

    .. math::
        L = L_{retain} + \beta\, L_{forget}
        + \frac{w_f}{\sqrt{N_f}} \Vert F_f P_f \Vert_*
        + \frac{w_r}{\sqrt{N_r}} \Vert F_r (I - P_r P_r^T) \Vert_F

        A \leftarrow A\, (I - Q Q^T), \qquad
        \frac{\partial L}{\partial A} \leftarrow
        \frac{\partial L}{\partial A} (I - Q Q^T)

    :math:`F_f` (N_f, C) and :math:`F_r` (N_r, C) are the features of the two
    halves, each of length 1: embeddings before the last class layer.
    :math:`P_f` and :math:`P_r` are bases of the subspaces in which those of
    the model before the step lie, by singular value decomposition of the
    replay images' features. The first norm is the sum of singular values: it
    empties the subspace of what is to be forgotten. The second keeps the
    retained features in theirs. :math:`L_{forget}` is that of
    :class:`GSLoRA`; the authors' code has such a term, but leaves it out
    (:math:`\beta = 0`). What a class layer makes of features that have left
    their subspace is open then: they may be taken for any class, the same
    one included, above all where few classes are forgotten at a time.

    Of each adapted layer, :math:`Q` is a basis of the subspaces of what it
    gets as *inputs* from the retain images and from all that was forgotten
    at earlier steps. The layer's update :math:`s B A` is zero there, whatever
    B is, so that training should neither disturb the one nor bring back the
    other. It is so as far as inputs lie there: :math:`Q` holds ``energy`` of
    what the model gave before the step, or, of what was forgotten, before the
    step that forgot it, and layers below change what a layer gets.

    From step to step, the subspaces of the forgotten are joined and carried
    on, as they were before each was forgotten; those of the retained are made
    anew from fewer classes, so that they contract.

    The paper's text was not at hand; this follows the authors' code and the
    abstract, with these choices:

    * Features are those of the last layer, as their ImageNet settings have
      it; for faces they take the class tokens of all blocks.
    * Their norms grow with the batch; here they are divided by the root of
      the number of rows, and the default weights are those for faces at
      their batches of 48. Each of several processes takes the norms of its
      own rows.
    * They project the gradients of all matrices with the bases of the blocks'
      outputs, reshaped where these do not fit, and AdamW, which rescales
      every entry, then leaves the subspace again. Here each layer has the
      basis of its own inputs, and A is confined, too.
    * Their settings for ImageNet also add the gradient's share in
      :math:`P_f`. It would take the retained inputs along that lie there,
      and is left out.

    Args:
        beta: Weight of the bounded forgetting loss.
        bound: BND, as in :class:`GSLoRA`.
        w_f: Weight of the forget features (faces; ImageNet-100: 3.5).
        w_r: Weight of the retain features (faces; ImageNet-100: 7).
        energy: Share of the sum of the fourth powers of the singular values
            that each subspace holds, in (0, 1).
        batch_size: Images of a batch while the subspaces are made.
        loss_forget: As in :class:`GSLoRA`.
    """

    name = 'fg_oriu'
    can_learn = False
    carries_state = True
    beta: PerStep[NonNegative] = 0.0
    bound: PerStep[Positive] = 15.0
    w_f: PerStep[NonNegative] = 0.7
    w_r: PerStep[NonNegative] = 0.07
    energy: PerStep[Energy] = 0.99
    batch_size: Count = 16
    loss_forget: LossConfig = 'gslora_mm.BoundedForgettingLoss'

    def __post_init__(self):
        super().__post_init__()
        self.forgetting_loss = build_loss(
            'method.loss_forget', self.loss_forget, bound=self.bound
        )
        # Orthonormal bases by the name of a layer, and of the features. They
        # are in a file of their own.
        self.bases = dict(forget={}, retain={})

    def setup(self, model):
        self.require_adapter(model)
        self.layers = lora_layers(model.model)

    def prepare(self, model, dataset):
        old = self.bases['forget']
        forget, retain = (
            replay_subspaces(
                model,
                dataset,
                role,
                self.layers,
                self.energy,
                self.batch_size,
            )
            for role in ('forget', 'retain')
        )
        if old:
            forget = {k: joint_basis(old[k], forget[k]) for k in forget}
            retain |= {k: joint_basis(old[k], retain[k]) for k in self.layers}
        if all(retain[k].shape[0] == retain[k].shape[1] for k in self.layers):
            raise ConfigError(
                'method.energy',
                self.energy,
                'what is to be left alone fills the inputs of all adapted '
                'layers, and nothing can be trained; lower it',
            )
        self.bases = dict(forget=forget, retain=retain)
        self._confine()

    def carried_state(self):
        return {
            f'{role}.{name}': basis
            for role, bases in self.bases.items()
            for name, basis in bases.items()
        }

    def load_carried_state(self, state):
        sizes = {k: layer.in_features for k, layer in self.layers.items()}
        device = next(iter(self.layers.values())).lora_A.device
        bases = dict(forget={}, retain={})
        for key, basis in state.items():
            role, _, name = key.partition('.')
            bases.setdefault(role, {})[name] = basis.to(device)
        for role, found in bases.items():
            shapes = {name: basis.shape[0] for name, basis in found.items()}
            width = shapes.pop(FEATURES, None)
            if shapes != sizes or width is None:
                raise ValueError(
                    f'its {role} subspaces are of layers {shapes}, not of '
                    f'{sizes}'
                )
        self.bases = bases

    def losses(self, forget, retain):
        terms = bounded_forgetting(forget, self.forgetting_loss, self.beta)
        inside = nuclear_norm_inside(
            forget.features, self.bases['forget'][FEATURES]
        )
        terms['loss_forget'] = terms['loss_forget'] + self.w_f * inside
        yield {**terms, 'inside_forget': inside.detach()}
        loss_retain = retain.loss
        outside = norm_outside(retain.features, self.bases['retain'][FEATURES])
        yield {
            'loss_retain': loss_retain,
            'loss_outside_retain': self.w_r * outside,
        }

    def before_update(self):
        for name, layer in self.layers.items():
            grad = layer.lora_A.grad
            if grad is not None:
                basis = self.bases['retain'][name].to(grad)
                grad.copy_(project_out(grad, basis))

    def after_update(self, optimizer):
        self._confine()

    @torch.no_grad()
    def _confine(self):
        """Take out of every A what would act on what is to stay."""
        for name, layer in self.layers.items():
            rows = layer.lora_A
            rows.copy_(project_out(rows, self.bases['retain'][name].to(rows)))
