"""Which queries of a detector are asked for objects, and put out."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from mmdet.models.dense_heads import DDQDETRHead
from torch import Tensor, nn


class AskedQueries(NamedTuple):
    """The queries that the last decoder layer is trained on and puts out.

    Denoising queries stand before them. DDQ-DETR has dense ones behind them,
    in training alone; and of those that overlap it leaves all but the best
    out, image by image, although its layers go on computing them.

    Attributes:
        places (slice): Where they are among all queries of a pass.
        is_distinct (Tensor, optional): Which of these are not left out,
            shape (n, queries). Defaults to None: all.
    """

    places: slice
    is_distinct: Tensor | None = None

    def of(self, found: Tensor) -> Tensor:
        """Rows of what n images have a row a query of.

        Args:
            found (Tensor): Shape (n, all queries, C).

        Returns:
            Tensor: Shape (rows, C), image by image.
        """
        found = found[:, self.places]
        if self.is_distinct is None:
            return found.flatten(0, 1)
        return found[self.is_distinct]

    def of_layers(
        self, outputs: Iterable[Iterable[Tensor]]
    ) -> tuple[Tensor, ...]:
        """The same of what has a row a query in each decoder layer.

        Args:
            outputs (Iterable[Iterable[Tensor]]): Scores and boxes, say, of
                each layer, (n, all queries, ...).

        Returns:
            tuple[Tensor]: Shapes (layers, rows, ...).
        """
        return tuple(torch.stack(list(map(self.of, x))) for x in outputs)


def asked_queries(head: nn.Module, num_queries: int) -> AskedQueries:
    """Find them in the last forward pass of a detector.

    Args:
        head (nn.Module): The head of the detector.
        num_queries (int): How many there are, of a head that asks all.
    """
    if not isinstance(head, DDQDETRHead):
        return AskedQueries(slice(-num_queries, None))
    found = head.cache_dict
    start, length = found['dis_query_info']
    # Masks of attention, one a head; the loss and the detections of mmdet
    # read their first row.
    masks = found['distinct_query_mask'][-1]
    is_distinct = masks[:: found['num_heads'], 0]
    return AskedQueries(slice(start, start + length), is_distinct)
