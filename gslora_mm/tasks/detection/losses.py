"""Losses of the heads of the DETR family, of chosen queries and classes."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import DETRHead
from mmdet.models.losses import FocalLoss
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from ..temporary import temporarily
from .patches import without_focus
from .queries import AskedQueries, asked_queries


class Targets(NamedTuple):
    """What the queries of one layer are trained for, a row each.

    Attributes:
        labels (Tensor): Class ids, ``num_classes`` for the background, shape
            (rows, ).
        weights (Tensor): Weights of the classification, shape (rows, ) or
            (rows, classes).
        boxes (Tensor): Normalised (cx, cy, w, h), shape (rows, 4).
        box_weights (Tensor): Shape (rows, 4), 0 without an object.
        num_matched (int): Queries that are matched to an object.
        num_unmatched (int): All others.
    """

    labels: Tensor
    weights: Tensor
    boxes: Tensor
    box_weights: Tensor
    num_matched: int
    num_unmatched: int

    @classmethod
    def join(cls, by_image: tuple) -> 'Targets':
        """From lists with a tensor an image, as mmdet has them."""
        return cls(*map(torch.cat, by_image[:4]), *by_image[4:])

    def split(self, sizes: list[int]) -> tuple:
        """Give mmdet's form, see :meth:`join`, of images of so many rows."""
        return (*(each.split(sizes) for each in self[:4]), *self[4:])


class HeadLosses(NamedTuple):
    """Losses of a head, and the queries of its last decoder layer.

    Attributes:
        losses (dict[str, Tensor | list[Tensor]]): As from ``head.loss``.
        asked (AskedQueries): Which queries these are; a row each, image by
            image.
        hidden (Tensor): Their embeddings, shape (rows, C).
        scores (Tensor): Their scores, shape (rows, columns).
        boxes (Tensor): Their boxes, normalised (cx, cy, w, h), shape
            (rows, 4).
        labels (Tensor): Class ids that they are trained for,
            ``num_classes`` for the background; shape (rows, ).
        is_matched (Tensor): Whether this is the class of an object, shape
            (rows, ).
        by_layer (tuple[Tensor, Tensor]): Scores and boxes of these queries
            in each decoder layer, (layers, rows, ...).
    """

    losses: dict[str, Tensor | list[Tensor]]
    asked: AskedQueries
    hidden: Tensor
    scores: Tensor
    boxes: Tensor
    labels: Tensor
    is_matched: Tensor
    by_layer: tuple[Tensor, Tensor]


#: Gives other targets for the scores (rows, columns) of a layer and its
#: targets, and a loss of its own or None.
Retarget = Callable[[Tensor, Targets], tuple[Targets, Tensor | None]]


def all_losses(head: nn.Module, inputs: dict) -> HeadLosses:
    """Losses of a head, as in training.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        inputs (dict): Arguments of its ``loss``.
    """
    return _losses_of_targets(head, inputs)[0]


def matched_losses(head: nn.Module, inputs: dict) -> HeadLosses:
    """Losses of a head, with only matched queries classified.

    Where the heads of the DETR family decide what each query is trained for,
    their targets, unmatched queries get a classification weight of 0.

    With a ``FocalLoss``, one binary loss a class, ``loss_cls`` is further
    narrowed down to the score of the object's own class, and those of the
    other classes make up ``loss_other_classes``. With a softmax, own and
    other classes cannot be told apart, and with other losses they are not.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        inputs (dict): Arguments of its ``loss``.
    """

    def retarget(scores: Tensor, targets: Targets) -> tuple:
        targets = _without_unmatched(head, targets)
        if not isinstance(head.loss_cls, FocalLoss):
            return targets, None
        own = _weights_of_own_class(head, targets)
        others = targets._replace(weights=targets.weights[..., None] - own)
        loss = _classification_loss(head, scores, others)
        return targets._replace(weights=own), loss

    found, loss = _losses_of_targets(head, inputs, retarget)
    if loss is not None:
        found.losses['loss_other_classes'] = loss
    return found


def emptied_losses(
    head: nn.Module, inputs: dict, classes: Tensor
) -> HeadLosses:
    """Compute a head's losses, with objects of some classes as background.

    Only the queries that are matched to an object are classified: those of
    ``classes`` as background and without a box, all others as in training.
    Meant for the last decoder layer; with a focal loss, the loss of an
    object's own class is computed there alone.

    Training reduces the loss of background, because most queries are
    background. Here that would leave too little gradient to turn an object
    into background. A focal loss multiplies the binary cross-entropy of a
    score of 0.1 by about a hundredth; but AP depends on the order of scores
    alone, and an object with a score of 0.1 may still be found. So the score
    of an object's own class gets the binary cross-entropy without the focal
    factor, and with a softmax these queries get a weight of 1 in place of
    ``bg_cls_weight``.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        inputs (dict): Arguments of its ``loss``.
        classes (Tensor): Class ids, shape (K, ); no query has such a label
            in what is returned.
    """
    by_class = isinstance(head.loss_cls, FocalLoss)

    def retarget(scores: Tensor, targets: Targets) -> tuple:
        targets = _without_unmatched(head, targets)
        weights = targets.weights
        is_emptied = torch.isin(targets.labels, classes)
        emptied = targets._replace(
            labels=targets.labels.masked_fill(is_emptied, head.num_classes),
            box_weights=targets.box_weights * ~is_emptied[..., None],
        )
        if by_class:
            own = _weights_of_own_class(head, targets) * is_emptied[..., None]
            with without_focus(head.loss_cls):
                loss = _classification_loss(
                    head, scores, emptied._replace(weights=own)
                )
            return emptied._replace(weights=weights[..., None] - own), loss
        if head.bg_cls_weight:
            # The background is not held back here.
            weights = weights * torch.where(
                is_emptied, 1 / head.bg_cls_weight, 1.0
            )
        return emptied._replace(weights=weights), None

    with nullcontext() if by_class else without_focus(head.loss_cls):
        found, loss = _losses_of_targets(head, inputs, retarget)
    if loss is not None:
        found.losses['loss_cls'] = found.losses['loss_cls'] + loss
    return found


def mean_count(
    head: nn.Module,
    num_matched: int | Tensor,
    num_unmatched: int | Tensor,
    like: Tensor,
) -> Tensor:
    """What mmdet's heads divide the classification loss by.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        num_matched (int | Tensor): Queries of this process that are matched
            to an object; a scalar tensor is not read back from its device.
        num_unmatched (int | Tensor): Its other queries.
        like (Tensor): On the device of the result.

    Returns:
        Tensor: Shape (1, ), averaged over processes if the head does so.
    """
    count = torch.as_tensor(
        num_matched + num_unmatched * head.bg_cls_weight,
        dtype=torch.float,
        device=like.device,
    ).reshape(1)
    if head.sync_cls_avg_factor:
        count = reduce_mean(count)
    return count.clamp(min=1)


def box_shifts(boxes: Tensor, others: Tensor) -> Tensor:
    """How far boxes are from others, in units of the others' sizes.

    Args:
        boxes (Tensor): (cx, cy, w, h), shape (N, 4).
        others (Tensor): The same.

    Returns:
        Tensor: Shifts of the centres, and logarithms of the ratios of
        widths and heights; shape (N, 4).
    """
    centers, sizes = boxes.split(2, dim=1)
    other_centers, other_sizes = others.split(2, dim=1)
    other_sizes = other_sizes.clamp(min=1e-4)
    return torch.cat(
        [
            (centers - other_centers) / other_sizes,
            (sizes.clamp(min=1e-4) / other_sizes).log(),
        ],
        dim=1,
    )


def _losses_of_targets(
    head: nn.Module, inputs: dict, retarget: Retarget | None = None
) -> tuple[HeadLosses, Tensor | None]:
    """Losses of a head that trains its queries for other targets.

    Returns:
        tuple: The losses, and what ``retarget`` gave for the last decoder
        layer beside its targets.
    """
    get_targets = head.get_targets
    layers: list[tuple[list, list, list, Tensor | None]] = []
    # mmdet's own targets have no gradients, and the costs of matching need
    # none, however many operations they are.
    own = getattr(type(head), '_get_targets_single', None)
    is_mmdet = own is DETRHead._get_targets_single
    matching = torch.no_grad() if is_mmdet else nullcontext()

    def get_other_targets(
        cls_scores: list[Tensor], boxes: list[Tensor], *args
    ) -> tuple:
        try:
            with matching:
                targets, loss = get_targets(cls_scores, boxes, *args), None
        except ValueError as error:
            if all(each.isfinite().all() for each in (*cls_scores, *boxes)):
                raise
            raise FloatingPointError(
                'the scores or boxes of the queries are not finite, so that '
                'no query can be matched to an object'
            ) from error
        if retarget is not None:
            other, loss = retarget(
                torch.cat(cls_scores), Targets.join(targets)
            )
            targets = other.split([len(each) for each in cls_scores])
        layers.append((cls_scores, boxes, targets[0], loss))
        return targets

    outputs: list[Tensor] = []
    handle = head.register_forward_hook(
        lambda module, args, found: outputs.extend(found[:2])
    )
    try:
        with temporarily(head, get_targets=get_other_targets):
            losses = head.loss(**inputs)
    finally:
        handle.remove()
    if not layers:
        raise TypeError(f'{type(head).__name__} does not ask get_targets')
    # The encoder's proposals come after the decoder's layers; or only the
    # last of these has been compared, see last_layer_only.
    last = min(len(inputs['hidden_states']), len(layers)) - 1
    asked = asked_queries(head, len(layers[last][0][0]))
    hidden = asked.of(inputs['hidden_states'][-1])
    scores, boxes, labels = map(torch.cat, layers[last][:3])
    is_matched = labels < head.num_classes
    found = HeadLosses(
        losses,
        asked,
        hidden,
        scores,
        boxes,
        labels,
        is_matched,
        asked.of_layers(outputs),
    )
    return found, layers[last][3]


def _without_unmatched(head: nn.Module, targets: Targets) -> Targets:
    """Targets with a classification of matched queries alone."""
    weights = targets.weights * (targets.labels < head.num_classes)
    # No unmatched query is left for the average to count.
    return targets._replace(weights=weights, num_unmatched=0)


def _weights_of_own_class(head: nn.Module, targets: Targets) -> Tensor:
    """Weights of scores, (rows, classes), 0 but for the label's."""
    own = F.one_hot(targets.labels, head.num_classes + 1)[..., :-1]
    return targets.weights[..., None] * own


def _classification_loss(
    head: nn.Module, scores: Tensor, targets: Targets
) -> Tensor:
    """Classification loss of one layer, weighted score by score."""
    return head.loss_cls(
        scores,
        targets.labels,
        targets.weights,
        avg_factor=mean_count(head, targets.num_matched, 0, scores),
    )
