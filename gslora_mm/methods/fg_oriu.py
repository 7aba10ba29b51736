from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from gslora_mm.lora import LoRALinear, lora_layers
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .arguments import check_counts, check_weights
from .bounded import BoundedForgetting
from gslora_mm.methods.ingredients.subspaces import (
    joint_basis,
    leading_directions,
    second_moments,
    without,
)

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch

#: Beside the names of the adapted layers.
FEATURES = 'features'


@METHODS.register_module()
class FGOrIU(BoundedForgetting):
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
        beta (float): Weight of the bounded forgetting loss; a list in a
            config has one value a step. Defaults to 0.0.
        bound (float): BND, as in :class:`GSLoRA`. Defaults to 15.0.
        w_f (float): Weight of the forget features; a list in a config has
            one value a step. Defaults to 0.7 (faces; ImageNet-100: 3.5).
        w_r (float): Weight of the retain features; a list in a config has
            one value a step. Defaults to 0.07 (faces; ImageNet-100: 7).
        energy (float): Share of the sum of the fourth powers of the singular
            values that each subspace holds, in (0, 1); a list in a config
            has one value a step. Defaults to 0.99.
        batch_size (int): Images of a batch while the subspaces are made.
            Defaults to 16.
    """

    name = 'fg_oriu'
    can_learn = False
    per_step = (*BoundedForgetting.per_step, 'w_f', 'w_r', 'energy')

    def __init__(
        self,
        beta: float = 0.0,
        bound: float = 15.0,
        w_f: float = 0.7,
        w_r: float = 0.07,
        energy: float = 0.99,
        batch_size: int = 16,
    ) -> None:
        super().__init__(beta, bound)
        check_weights(w_f=w_f, w_r=w_r)
        check_counts(batch_size=batch_size)
        if not isinstance(energy, int | float) or not 0 < energy < 1:
            raise ConfigError(
                f'method.energy = {energy!r}: must be a number in (0, 1)'
            )
        self.w_f = w_f
        self.w_r = w_r
        self.energy = energy
        self.batch_size = batch_size
        self._layers: dict[str, LoRALinear] = {}
        # Bases by the name of a layer, and of the features. They are in a
        # file of their own.
        self._forget: dict[str, Tensor] = {}
        self._retain: dict[str, Tensor] = {}

    def setup(self, model: ForgettingModel) -> None:
        self._layers = lora_layers(model.model)
        if not self._layers:
            raise ConfigError(
                'adapter = None: FGOrIU needs an adapter, for example '
                'adapter = dict(rank=8)'
            )

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        old = self._forget
        forget = self._subspaces(model, dataset, 'forget')
        retain = self._subspaces(model, dataset, 'retain')
        if old:
            forget = {k: joint_basis(old[k], forget[k]) for k in forget}
            retain |= {k: joint_basis(old[k], retain[k]) for k in self._layers}
        if all(retain[k].shape[0] == retain[k].shape[1] for k in self._layers):
            raise ConfigError(
                f'method.energy = {self.energy!r}: what is to be left alone '
                'fills the inputs of all adapted layers, and nothing can be '
                'trained; lower it'
            )
        self._forget, self._retain = forget, retain
        self._confine()

    def _subspaces(
        self, model: ForgettingModel, dataset: ForgetRetainDataset, role: str
    ) -> dict[str, Tensor]:
        inputs, features = second_moments(
            model, dataset, role, self._layers, self.batch_size
        )
        unseen = [name for name in self._layers if name not in inputs]
        if unseen:
            raise ConfigError(
                f'adapter.target: {unseen[0]} is not called, its weight is '
                'only read, so that FGOrIU cannot see its inputs; valid is '
                "for example 'ffn'"
            )
        return {
            name: leading_directions(moments, self.energy)
            for name, moments in {**inputs, FEATURES: features}.items()
        }

    def carried_state(self) -> dict[str, Tensor]:
        return {
            f'{role}.{name}': basis
            for role, bases in self._bases().items()
            for name, basis in bases.items()
        }

    def load_carried_state(self, state: dict[str, Tensor]) -> None:
        sizes = {k: layer.in_features for k, layer in self._layers.items()}
        device = next(iter(self._layers.values())).lora_A.device
        for role, bases in self._bases().items():
            found = {
                name.removeprefix(f'{role}.'): basis.to(device)
                for name, basis in state.items()
                if name.startswith(f'{role}.')
            }
            shapes = {name: basis.shape[0] for name, basis in found.items()}
            width = shapes.pop(FEATURES, None)
            if shapes != sizes or width is None:
                raise ValueError(
                    f'its {role} subspaces are of layers {shapes}, not of '
                    f'{sizes}'
                )
            bases.clear()
            bases.update(found)

    def _bases(self) -> dict[str, dict[str, Tensor]]:
        return dict(forget=self._forget, retain=self._retain)

    def forget_part(self, forget: HalfBatch) -> dict[str, Tensor]:
        part = super().forget_part(forget)
        inside = nuclear_norm_inside(forget.features, self._forget[FEATURES])
        part['loss_forget'] = part['loss_forget'] + self.w_f * inside
        part['inside_forget'] = inside.detach()
        return part

    def retain_part(self, retain: HalfBatch) -> dict[str, Tensor]:
        part = super().retain_part(retain)
        outside = norm_outside(retain.features, self._retain[FEATURES])
        part['loss_outside_retain'] = self.w_r * outside
        return part

    def before_update(self) -> None:
        for name, layer in self._layers.items():
            grad = layer.lora_A.grad
            if grad is not None:
                grad.copy_(without(grad, self._retain[name].to(grad)))

    def after_update(self, optimizer: Optimizer) -> None:
        self._confine()

    @torch.no_grad()
    def _confine(self) -> None:
        """Take out of every A what would act on what is to stay."""
        for name, layer in self._layers.items():
            rows = layer.lora_A
            rows.copy_(without(rows, self._retain[name].to(rows)))


def nuclear_norm_inside(features: Tensor, basis: Tensor) -> Tensor:
    """How much of unit features, and how spread, is in a subspace.

    Args:
        features (Tensor): Shape (N, C).
        basis (Tensor): Orthonormal, (C, rank).

    Returns:
        Tensor: Scalar; zero without features.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = _unit_rows(features)
        return torch.linalg.matrix_norm(rows @ basis.to(rows), ord='nuc')


def norm_outside(features: Tensor, basis: Tensor) -> Tensor:
    """How much of unit features is outside of a subspace.

    Args:
        features (Tensor): Shape (N, C).
        basis (Tensor): Orthonormal, (C, rank).

    Returns:
        Tensor: Scalar, the root mean square over the features.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = _unit_rows(features)
        return torch.linalg.vector_norm(without(rows, basis.to(rows)))


def _unit_rows(features: Tensor) -> Tensor:
    """Features of length 1, over the root of their number."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    return F.normalize(features.to(dtype)) / max(len(features), 1) ** 0.5
