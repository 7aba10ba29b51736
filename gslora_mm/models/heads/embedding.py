from collections.abc import Sequence

from mmpretrain.structures import DataSample
from torch import Tensor

#: Field of a data sample that holds the embedding of its image.
EMBEDDING = 'embedding'


class EmbeddingMixin:
    """For heads of mmpretrain: predictions carry the embedding, too.

    Put before the head in the bases of a class. It adds no parameters, so
    that checkpoints stay those of the stock head.
    """

    def predict(
        self,
        feats: tuple[Tensor, ...],
        data_samples: Sequence[DataSample | None] | None = None,
    ) -> list[DataSample]:
        """Classify, and attach what the classes were told from.

        Args:
            feats (tuple[Tensor]): Outputs of the backbone; the last one is
                used, shape (N, C).
            data_samples (Sequence[DataSample], optional): Samples to
                complete. Defaults to None, which makes new ones.

        Returns:
            list[DataSample]: With ``pred_score`` and ``pred_label`` as of
            the stock head, and ``embedding``, the input of the last class
            layer, shape (C, ), not normalised, in float32.
        """
        predictions = super().predict(feats, data_samples)
        embeddings = self.pre_logits(feats).detach().float()
        for sample, embedding in zip(predictions, embeddings, strict=True):
            sample.set_field(embedding, EMBEDDING, dtype=Tensor)
        return predictions
