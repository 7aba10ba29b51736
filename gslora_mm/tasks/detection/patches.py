"""Changes of mmdet's objects, undone at the end of a ``with`` block."""

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from mmdet.models.losses import FocalLoss, QualityFocalLoss
from torch import Tensor, nn

from ..temporary import temporarily


def computing_losses(detector: nn.Module) -> AbstractContextManager:
    """Let a detector in evaluation mode give its head what losses need.

    mmdet's detectors tell by their own flag, not by those of their layers,
    whether to compute that.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet.
    """
    return temporarily(detector, training=True)


def recording_proposals(
    detector: nn.Module, proposals: list[Tensor]
) -> AbstractContextManager:
    """Write down the boxes that a two-stage detector's queries start from.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet; nothing is
            done if its queries are the same for all images.
        proposals (list[Tensor]): What it chose is put here, of shape
            (n, queries, 4), denoising queries before the others.
    """

    def record(inputs: dict) -> dict:
        proposals[:] = [inputs['reference_points'].detach()]
        return inputs

    return changing_decoder_inputs(detector, record)


def replaying_proposals(
    detector: nn.Module, proposals: list[Tensor]
) -> AbstractContextManager:
    """Let a two-stage detector start from boxes that another one chose.

    Two detectors rank what their encoders found differently, and row i of
    one is another object of the other.

    Args:
        detector (nn.Module): As for :func:`recording_proposals`.
        proposals (list[Tensor]): What that wrote down.
    """

    def replay(inputs: dict) -> dict:
        (points,) = proposals
        changed = dict(inputs, reference_points=points)
        if hasattr(detector, 'pos_trans_fc'):
            # Deformable DETR makes queries of boxes; DINO has the same ones.
            found = detector.get_proposal_pos_embed(torch.logit(points, 1e-6))
            found = detector.pos_trans_norm(detector.pos_trans_fc(found))
            changed['query_pos'], changed['query'] = found.chunk(2, dim=2)
        return changed

    return changing_decoder_inputs(detector, replay)


def changing_decoder_inputs(
    detector: nn.Module, change: Callable[[dict], dict]
) -> AbstractContextManager:
    """Change what the decoder of a two-stage detector is given.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet; nothing is
            done if it is not a two-stage one.
        change (Callable): Gives the decoder's arguments for these.
    """
    if not getattr(detector, 'as_two_stage', False):
        return nullcontext()
    pre_decoder = detector.pre_decoder

    def changed(*args, **kwargs) -> tuple[dict, dict]:
        inputs, head_inputs = pre_decoder(*args, **kwargs)
        return change(inputs), head_inputs

    return temporarily(detector, pre_decoder=changed)


def last_layer_only(
    head: nn.Module, num_layers: int
) -> AbstractContextManager:
    """Let a head match and compare for its last decoder layer alone.

    Matching the queries of all layers, and of the encoder's proposals, takes
    long, and what does not count need not be known. It is 0 then.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        num_layers (int): Number of its decoder layers.
    """
    loss_by_feat_single = head.loss_by_feat_single
    layers = itertools.count(1)

    def only_the_last(cls_scores: Tensor, *args, **kwargs) -> tuple:
        # Decoder layers come first, the encoder's proposals after them.
        if next(layers) == num_layers:
            return loss_by_feat_single(cls_scores, *args, **kwargs)
        return (cls_scores.new_zeros(()),) * 3

    return temporarily(head, loss_by_feat_single=only_the_last)


def without_focus(loss: nn.Module) -> AbstractContextManager:
    """Make a focal loss a (balanced) binary cross-entropy.

    Args:
        loss (nn.Module): The classification loss of a head; nothing is done
            if it has no focus.
    """
    if isinstance(loss, FocalLoss):
        return temporarily(loss, gamma=0.0)
    if isinstance(loss, QualityFocalLoss):
        return temporarily(loss, beta=0.0)
    return nullcontext()
