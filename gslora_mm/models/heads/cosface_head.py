import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.utils import is_seq_of
from mmpretrain.models.heads import ArcFaceClsHead
from torch import Tensor

from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.precision import without_autocast
from .embedding import EmbeddingMixin


@MODELS.register_module()
class ArcFaceEmbeddingHead(EmbeddingMixin, ArcFaceClsHead):
    """mmpretrain's ``ArcFaceClsHead`` whose predictions carry embeddings.

    What :class:`~gslora_mm.evaluation.FaceVerification` needs. Arguments,
    losses and checkpoints are those of the stock head.
    """


@MODELS.register_module()
class CosFaceClsHead(EmbeddingMixin, ArcFaceClsHead):
    r"""Cosine classifier with an additive margin in training.

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face
    Recognition", CVPR 2018, arXiv 1801.09414, equation 4:

    .. math::
        z_j = s \, (\cos\theta_j - m \, [j = y]), \qquad
        \cos\theta_j = \frac{W_j^\top x}{\lVert W_j \rVert\,\lVert x \rVert}

    The margin belongs to the training loss. Scores at test time are
    ``s cos`` for every class: what is predicted does not depend on the true
    label. Cosines are computed in float32, also under autocast: in bfloat16
    they would be rounded to steps of ``s / 256``.

    The parameters are those of mmpretrain's ``ArcFaceClsHead`` with one
    sub-centre (``norm_product.weight``), and at test time both heads are the
    same function, so that checkpoints of one load into the other.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Size C of an embedding.
        scale (float): ``s``. Defaults to 64.0.
        margins (float | Sequence[float]): ``m``, one for all classes or one
            for each. Defaults to 0.35.
        loss (dict): Config of the classification loss. Defaults to
            ``dict(type='CrossEntropyLoss', loss_weight=1.0)``.
        init_cfg (dict, optional): Config of the initialisation. Defaults to
            None.

    Raises:
        ConfigError: If ``scale`` is not above 0, or a margin is below 0.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margins: float | Sequence[float] = 0.35,
        loss: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not _is_number(scale) or not 0 < scale < math.inf:
            raise ConfigError(
                'model.head.scale',
                scale,
                'must be a number above 0; the papers use 64',
            )
        super().__init__(
            num_classes,
            in_channels,
            scale=scale,
            margins=_checked_margins(margins, num_classes),
            loss=loss or dict(type='CrossEntropyLoss', loss_weight=1.0),
            init_cfg=init_cfg,
        )

    def set_margins(self, margins: float | Sequence[float]) -> None:
        """Set the margins, of all classes at once or one for each."""
        margins = _checked_margins(margins, self.num_classes)
        self.margins = self.margins.new_tensor(margins)

    def forward(
        self, feats: tuple[Tensor, ...], target: Tensor | None = None
    ) -> Tensor:
        """Score the classes.

        Args:
            feats (tuple[Tensor]): Outputs of the backbone; the last one is
                used, shape (N, C).
            target (Tensor, optional): True labels, shape (N, ), which get
                the margin: only :meth:`loss` gives them. Defaults to None.

        Returns:
            Tensor: Scores before the softmax, shape (N, num_classes), in
            float32 or wider.
        """
        embeddings = self.pre_logits(feats)
        with without_autocast(embeddings):
            logits = self.cosines(embeddings)
            if target is not None:
                logits = self._with_margin(logits, target)
            return self.scale * logits

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Cosine between embeddings and the weights of the classes.

        Args:
            embeddings (Tensor): Shape (N, C).

        Returns:
            Tensor: Shape (N, num_classes).
        """
        weight = self.norm_product.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return F.linear(
            F.normalize(embeddings.to(dtype)), F.normalize(weight.to(dtype))
        )

    def _with_margin(self, cosines: Tensor, target: Tensor) -> Tensor:
        own = F.one_hot(target.flatten(), self.num_classes)
        return cosines - self.margins.to(cosines.dtype) * own


def _checked_margins(
    margins: float | Sequence[float], num_classes: int
) -> list[float]:
    values = [margins] * num_classes if _is_number(margins) else margins
    if (
        not is_seq_of(values, (int, float))
        or len(values) != num_classes
        or not all(0 <= value < math.inf for value in values)
    ):
        raise ConfigError(
            'model.head.margins',
            margins,
            'must be a number of at least 0, or a list of '
            f'{num_classes} such numbers, one a class; the papers use 0.35',
        )
    return [float(value) for value in values]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
