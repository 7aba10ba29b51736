import torch.nn.functional as F
from torch import Tensor

from gslora_mm.registry import MODELS
from .weighted_loss import WeightedLoss


def prototype_loss(
    features: Tensor, labels: Tensor, prototypes: Tensor
) -> Tensor:
    r"""Divergence of features from the prototype of their class.

    .. math::
        \mathrm{KL}(\mathrm{softmax}(p_y) \,\Vert\, \mathrm{softmax}(f))

    over the feature dimensions, averaged over the batch (GS-LoRA++, Sec. 4).

    Args:
        features (Tensor): Shape (N, C).
        labels (Tensor): Class ids, shape (N, ), each in [0, num_classes).
        prototypes (Tensor): One row a class, shape (num_classes, C).

    Returns:
        Tensor: Scalar; zero for an empty batch.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _check_shapes(features, labels, prototypes)
    if len(features) == 0:
        return features.sum()
    target = F.log_softmax(prototypes[labels], dim=1)
    log_prob = F.log_softmax(features, dim=1)
    return F.kl_div(log_prob, target, reduction='batchmean', log_target=True)


def relative_prototype_loss(
    features: Tensor, labels: Tensor, prototypes: Tensor
) -> Tensor:
    r"""Distance of features from the prototype of their class, in theirs.

    .. math::
        \frac{1 - \cos(f, p_y)}
        {\mathrm{mean}_{j \neq k}(1 - \cos(p_j, p_k))}

    averaged over the batch: 0 at the prototype, 1 as far away as two
    prototypes are from another on average. The divergence of
    :func:`prototype_loss` is of the features as they are, and depends on
    their scale and width; this does not, whatever the model is.

    Args:
        features (Tensor): Shape (N, C).
        labels (Tensor): Class ids, shape (N, ).
        prototypes (Tensor): One row a class, shape (num_classes, C); rows of
            zeros are of classes without a prototype.

    Returns:
        Tensor: Scalar; zero for an empty batch.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _check_shapes(features, labels, prototypes)
    if len(features) == 0:
        return features.sum()
    rows = F.normalize(prototypes[prototypes.any(dim=1)])
    # The mean of all cosines is the squared length of the mean row, so that
    # thousands of classes need no table of their pairs - and no product of
    # matrices, which mixed precision would round. Those of a row with itself
    # are 1.
    count = len(rows)
    apart = 1 - rows.mean(0).square().sum()
    spread = apart * count / max(count - 1, 1)
    cosine = F.cosine_similarity(features, prototypes[labels])
    return (1 - cosine).mean() / spread.clamp(min=1e-6)


def _check_shapes(
    features: Tensor, labels: Tensor, prototypes: Tensor
) -> None:
    if features.dim() != 2 or features.shape[1:] != prototypes.shape[1:]:
        raise ValueError(
            f'features {tuple(features.shape)} and prototypes '
            f'{tuple(prototypes.shape)} must be (N, C) and (classes, C)'
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f'labels must have shape ({len(features)}, ), got '
            f'{tuple(labels.shape)}'
        )


@MODELS.register_module()
class PrototypeLoss(WeightedLoss):
    """:func:`prototype_loss` as a module.

    Args:
        loss_weight (float): Factor of the loss, not negative. Defaults to
            1.0.

    Raises:
        ConfigError: If the weight is no such number.
    """

    function = staticmethod(prototype_loss)

    def forward(
        self, features: Tensor, labels: Tensor, prototypes: Tensor
    ) -> Tensor:
        """Mean distance of features from their prototypes.

        Args:
            features (Tensor): Shape (N, C).
            labels (Tensor): Class ids, shape (N, ).
            prototypes (Tensor): One row a class, shape (num_classes, C).

        Returns:
            Tensor: Scalar; zero for an empty batch.
        """
        return self.loss_weight * self.function(features, labels, prototypes)


@MODELS.register_module()
class RelativePrototypeLoss(PrototypeLoss):
    """:func:`relative_prototype_loss` as a module.

    Args:
        loss_weight (float): Factor of the loss, not negative. Defaults to
            1.0.
    """

    function = staticmethod(relative_prototype_loss)
