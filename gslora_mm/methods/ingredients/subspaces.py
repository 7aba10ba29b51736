"""Subspaces that hold what a model sees of some images."""

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import TaskModel
from gslora_mm.utils import ConfigError
from .replay import read_replay, without_adapter

#: Name of the features' subspace, next to the names of the layers.
FEATURES = 'features'


def replay_subspaces(
    model: TaskModel,
    dataset: ForgetRetainDataset,
    role: str,
    layers: Mapping[str, nn.Module],
    energy: float,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """Subspaces of what a model without its adapter sees of one half.

    Args:
        model (TaskModel): See :func:`second_moments`.
        dataset (ForgetRetainDataset): See :func:`second_moments`.
        role (str): See :func:`second_moments`.
        layers (Mapping[str, nn.Module]): The adapted layers, by name.
        energy (float): See :func:`leading_directions`.
        batch_size (int): Images of a batch. Defaults to 16.

    Returns:
        dict[str, Tensor]: Orthonormal bases of the inputs of each layer, by
        its name, and of the features.

    Raises:
        ConfigError: If a layer is not called.
    """
    inputs, features = second_moments(model, dataset, role, layers, batch_size)
    unseen = [name for name in layers if name not in inputs]
    if unseen:
        raise ConfigError(
            'adapter.target',
            valid=f'{unseen[0]} is not called, its weight is only read, so '
            "that FGOrIU cannot see its inputs; valid is for example 'ffn'",
        )
    return {
        name: leading_directions(moments, energy)
        for name, moments in {**inputs, FEATURES: features}.items()
    }


@torch.no_grad()
def second_moments(
    model: TaskModel,
    dataset: ForgetRetainDataset,
    role: str,
    layers: Mapping[str, nn.Module],
    batch_size: int = 16,
) -> tuple[dict[str, Tensor], Tensor]:
    r"""What a model without its adapter sees of one half, summed up.

    .. math:: M = \sum_i x_i x_i^T

    over all inputs of a layer (tokens, queries), and over the features of
    the half, in evaluation mode. The result follows from model and data
    alone.

    Args:
        model (TaskModel): Its mode is put back at the end.
        dataset (ForgetRetainDataset): The replay images of a step.
        role (str): ``'forget'`` or ``'retain'``.
        layers (Mapping[str, nn.Module]): Layers of the model, by name.
        batch_size (int): Images of a batch. Defaults to 16.

    Returns:
        tuple[dict[str, Tensor], Tensor]: Of each layer that was called, by
        name, shape (in_features, in_features), and of the features, (C, C).
    """
    inputs: dict[str, Tensor] = {}
    features: list[Tensor] = []

    def add(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[name] = inputs.get(name, 0) + _moments(args[0])

    handles = [
        layer.register_forward_pre_hook(partial(add, name))
        for name, layer in layers.items()
    ]
    try:
        with without_adapter(model):
            for half in read_replay(model, dataset, batch_size, roles=(role,)):
                features.append(_moments(half.features))
    finally:
        for handle in handles:
            handle.remove()
    return inputs, torch.stack(features).sum(0)


def _moments(x: Tensor) -> Tensor:
    x = x.reshape(-1, x.shape[-1]).float()
    return x.t() @ x


def leading_directions(moments: Tensor, energy: float) -> Tensor:
    r"""The fewest directions that hold a share of what was summed up.

    .. math::
        \mathrm{rank} = \min \{r : \sum_{k \le r} \lambda_k^2 \ge
        energy \sum_k \lambda_k^2\}

    with the eigenvalues :math:`\lambda_1 \ge \lambda_2 \ge \dots` of the
    second moments, which are the squared singular values of the vectors.

    Args:
        moments (Tensor): Shape (C, C), see :func:`second_moments`.
        energy (float): In (0, 1).

    Returns:
        Tensor: An orthonormal basis, one direction a column, float32 of
        shape (C, rank); rank is 0 if nothing was summed up.
    """
    values, vectors = torch.linalg.eigh(moments.double())
    held = values.flip(0).square().cumsum(0)
    rank = int((held < energy * held[-1]).sum()) + int(held[-1] > 0)
    return vectors.flip(1)[:, :rank].float()


def joint_basis(*bases: Tensor) -> Tensor:
    """An orthonormal basis of all that some bases span together.

    Args:
        *bases (Tensor): Orthonormal bases, shapes (C, rank).

    Returns:
        Tensor: Float32 of shape (C, rank). Directions nearly in the span of
        the others, up to rounding, add nothing.
    """
    columns = torch.cat(bases, dim=1).double()
    vectors, values, _ = torch.linalg.svd(columns, full_matrices=False)
    return vectors[:, values > 1e-3].float()


def project_out(rows: Tensor, basis: Tensor) -> Tensor:
    """Remove from vectors their projections onto a subspace.

    Args:
        rows (Tensor): Shape (N, C).
        basis (Tensor): Orthonormal, (C, rank).

    Returns:
        Tensor: Shape (N, C).
    """
    return rows - (rows @ basis) @ basis.t()


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
        return torch.linalg.vector_norm(project_out(rows, basis.to(rows)))


def _unit_rows(features: Tensor) -> Tensor:
    """Features of length 1, over the root of their number."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    return F.normalize(features.to(dtype)) / max(len(features), 1) ** 0.5
