"""Losses of the heads of the DETR family, of chosen queries and classes."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from ..temporary import temporarily
from .patches import without_focus


class Targets(NamedTuple):
    """What the queries of one layer are trained for, of n images.

    Attributes:
        labels (Tensor): Class ids, ``num_classes`` for the background, shape
            (n, queries).
        weights (Tensor): Weights of the classification, shape (n, queries)
            or (n, queries, classes).
        boxes (Tensor): Normalised (cx, cy, w, h), shape (n, queries, 4).
        box_weights (Tensor): Shape (n, queries, 4), 0 without an object.
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
    def stack(cls, by_image: tuple) -> 'Targets':
        """From lists with a tensor an image, as mmdet has them."""
        return cls(*map(torch.stack, by_image[:4]), *by_image[4:])

    def unstack(self) -> tuple:
        """Give mmdet's form, see :meth:`stack`."""
        return (*map(list, self[:4]), *self[4:])


class HeadLosses(NamedTuple):
    """Losses of a head, and its last decoder layer.

    Attributes:
        losses (dict[str, Tensor]): As from ``head.loss``.
        scores (Tensor): Scores of the last decoder layer's queries, shape
            (n, queries, columns).
        labels (Tensor): Class ids that these are trained for,
            ``num_classes`` for the background; shape (n, queries).
    """

    losses: dict[str, Tensor]
    scores: Tensor
    labels: Tensor


#: Gives other targets for the scores (n, queries, columns) of a layer and
#: its targets, and a loss of its own or None.
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
        weights, loss = _weights_of_matched(head, targets), None
        if isinstance(head.loss_cls, FocalLoss):
            own = _weights_of_own_class(head, targets.labels, weights)
            others = weights[..., None] - own
            loss = _classification_loss(
                head, scores, targets.labels, others, targets.num_matched
            )
            weights = own
        return targets._replace(weights=weights, num_unmatched=0), loss

    found, loss = _losses_of_targets(head, inputs, retarget)
    if loss is not None:
        found.losses['loss_other_classes'] = loss
    return found


def emptied_losses(
    head: nn.Module, inputs: dict, classes: Tensor
) -> HeadLosses:
    """Losses of a head, with objects of some classes turned to background.

    The counterpart of :func:`matched_losses` for objects that are to become
    background: only the queries that objects are matched to are classified,
    those of ``classes`` as background and without a box, all others as in
    training. Meant for the last decoder layer; other layers' losses of the
    own class are left out with a focal loss.

    What holds unmatched queries back, because they are so many, would keep
    the few matched ones from becoming background. A focal loss counts a
    query that shows little as done: at a score of 0.1 a hundredth of the
    binary cross-entropy is left. But AP only ranks, and an object at 0.1 is
    still found; so an object's own class is without focus. With a softmax,
    these queries do without the lower weight of the background.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        inputs (dict): Arguments of its ``loss``.
        classes (Tensor): Class ids, shape (K, ); no query has such a label
            in what is returned.
    """
    by_class = isinstance(head.loss_cls, FocalLoss)

    def retarget(scores: Tensor, targets: Targets) -> tuple:
        weights, loss = _weights_of_matched(head, targets), None
        is_emptied = torch.isin(targets.labels, classes)
        labels = targets.labels.masked_fill(is_emptied, head.num_classes)
        if by_class:
            own = _weights_of_own_class(
                head, targets.labels, weights * is_emptied
            )
            with without_focus(head.loss_cls):
                loss = _classification_loss(
                    head, scores, labels, own, targets.num_matched
                )
            weights = weights[..., None] - own
        elif head.bg_cls_weight:
            weights = weights * torch.where(
                is_emptied, 1 / head.bg_cls_weight, 1.0
            )
        changed = targets._replace(
            labels=labels,
            weights=weights,
            box_weights=targets.box_weights * ~is_emptied[..., None],
            num_unmatched=0,
        )
        return changed, loss

    if by_class:
        found, loss = _losses_of_targets(head, inputs, retarget)
        found.losses['loss_cls'] = found.losses['loss_cls'] + loss
        return found
    with without_focus(head.loss_cls):
        return _losses_of_targets(head, inputs, retarget)[0]


def mean_count(
    head: nn.Module, num_matched: int, num_unmatched: int, like: Tensor
) -> Tensor:
    """What mmdet's heads divide the classification loss by.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        num_matched (int): Queries of this process that are matched to an
            object.
        num_unmatched (int): Its other queries.
        like (Tensor): On the device of the result.

    Returns:
        Tensor: Shape (1, ), averaged over processes if the head does so.
    """
    count = like.new_tensor(
        [num_matched + num_unmatched * head.bg_cls_weight], dtype=torch.float
    )
    if head.sync_cls_avg_factor:
        count = reduce_mean(count)
    return count.clamp(min=1)


def _losses_of_targets(
    head: nn.Module, inputs: dict, retarget: Retarget | None = None
) -> tuple[HeadLosses, Tensor | None]:
    """Losses of a head that trains its queries for other targets.

    Returns:
        tuple: The losses, and what ``retarget`` gave for the last decoder
        layer beside its targets.
    """
    get_targets = head.get_targets
    layers: list[tuple[list[Tensor], list[Tensor], Tensor | None]] = []

    def get_other_targets(cls_scores: list[Tensor], *args) -> tuple:
        targets, loss = get_targets(cls_scores, *args), None
        if retarget is not None:
            other, loss = retarget(
                torch.stack(cls_scores), Targets.stack(targets)
            )
            targets = other.unstack()
        layers.append((cls_scores, targets[0], loss))
        return targets

    with temporarily(head, get_targets=get_other_targets):
        losses = head.loss(**inputs)
    # The encoder's proposals come after the decoder's layers; or only the
    # last of these has been compared, see last_layer_only.
    last = min(len(inputs['hidden_states']), len(layers)) - 1
    scores, labels, loss = layers[last]
    return HeadLosses(losses, torch.stack(scores), torch.stack(labels)), loss


def _weights_of_matched(head: nn.Module, targets: Targets) -> Tensor:
    """Weights of queries, (n, queries), 0 where none is matched."""
    return targets.weights * (targets.labels < head.num_classes)


def _weights_of_own_class(
    head: nn.Module, labels: Tensor, weights: Tensor
) -> Tensor:
    """Weights of scores, (n, queries, classes), 0 but for the label's."""
    own = F.one_hot(labels, head.num_classes + 1)[..., :-1]
    return weights[..., None] * own


def _classification_loss(
    head: nn.Module,
    scores: Tensor,
    labels: Tensor,
    weights: Tensor,
    num_matched: int,
) -> Tensor:
    """Classification loss of one layer, a mean over matched queries."""
    return head.loss_cls(
        scores.flatten(0, 1),
        labels.flatten(),
        weights.flatten(0, 1),
        avg_factor=mean_count(head, num_matched, 0, weights),
    )
