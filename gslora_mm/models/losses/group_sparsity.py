from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gslora_mm.registry import MODELS
from .weighted_loss import WeightedLoss


def group_norm(group: Sequence[Tensor]) -> Tensor:
    """l2 norm over all entries of all tensors of one group.

    Built from norms of norms, whose subgradient at zero is zero: a group
    that is exactly zero stays there instead of turning into NaN, which the
    square root of a sum of squares would do.

    Args:
        group (Sequence[Tensor]): Tensors of any shapes.

    Returns:
        Tensor: Scalar.
    """
    norms = [torch.linalg.vector_norm(tensor) for tensor in group]
    return torch.linalg.vector_norm(torch.stack(norms))


def group_sparsity_loss(
    groups: Mapping[str, Sequence[Tensor]] | Iterable[Sequence[Tensor]],
) -> Tensor:
    r"""Group lasso over the adapter.

    .. math:: L_{structure} = \sum_{g} \Vert \theta_g \Vert_2

    without a factor for the size of a group (GS-LoRA, Sec. 4.3).

    Args:
        groups: The groups, each a sequence of tensors, or a mapping from
            group names to them (as :func:`gslora_mm.lora.lora_groups`
            returns).

    Returns:
        Tensor: Scalar.

    Raises:
        ValueError: If there is no group.
    """
    members = groups.values() if isinstance(groups, Mapping) else groups
    norms = [group_norm(group) for group in members]
    if not norms:
        raise ValueError('group_sparsity_loss needs at least one group')
    return torch.stack(norms).sum()


@MODELS.register_module()
class GroupSparsityLoss(WeightedLoss):
    """:func:`group_sparsity_loss` as a module.

    Args:
        loss_weight (float): Factor of the loss, not negative. Defaults to
            1.0.

    Raises:
        ConfigError: If the weight is no such number.
    """

    def forward(
        self,
        groups: Mapping[str, Sequence[Tensor]] | Iterable[Sequence[Tensor]],
    ) -> Tensor:
        """Sum the norms of the groups.

        Args:
            groups: See :func:`group_sparsity_loss`.

        Returns:
            Tensor: Scalar.
        """
        return self.loss_weight * group_sparsity_loss(groups)
