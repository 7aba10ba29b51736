"""Changes of mmdet's objects, undone at the end of a ``with`` block."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
)

import torch
from mmdet.models.dense_heads import DDQDETRHead
from mmdet.models.detectors import ddq_detr
from mmdet.models.layers.transformer import ddq_detr_layers
from mmdet.models.losses import FocalLoss, QualityFocalLoss
from torch import Tensor, nn

from ..temporary import temporarily


@contextmanager
def computing_losses(detector: nn.Module) -> Iterator[None]:
    """Let a detector in evaluation mode give its head what losses need.

    mmdet's detectors tell by their own flag, not by those of their layers,
    whether to compute that; DDQ-DETR by those of decoder and head, too.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet.
    """
    with ExitStack() as stack:
        for part in (detector, detector.decoder, detector.bbox_head):
            stack.enter_context(temporarily(part, training=True))
        try:
            yield
        finally:
            # DDQ-DETR lends branches of its head to its decoder, whose names
            # would be in checkpoints, and its adapter among them.
            detector.decoder._modules.pop('aux_reg_branches', None)


@contextmanager
def recording_proposals(
    detector: nn.Module, proposals: list[Tensor]
) -> Iterator[None]:
    """Write down the boxes that a two-stage detector's queries start from.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet; nothing is
            done if its queries are the same for all images.
        proposals (list[Tensor]): What it chose is put here, of shape
            (n, queries, 4), denoising queries before the others. Behind it,
            what DDQ-DETR kept of overlapping proposals and, layer by layer,
            of overlapping queries; positions, in the order of its questions.
    """
    chosen, kept = [], []
    batched_nms = ddq_detr.batched_nms

    def record(inputs: dict) -> dict:
        chosen.append(inputs['reference_points'].detach())
        return inputs

    def nms(*args) -> tuple:
        found = batched_nms(*args)
        kept.append(found[1])
        return found

    with changing_decoder_inputs(detector, record), changing_nms(nms):
        yield
    proposals[:] = chosen + kept


@contextmanager
def replaying_proposals(
    detector: nn.Module, proposals: list[Tensor]
) -> Iterator[None]:
    """Let a two-stage detector start from boxes that another one chose.

    Two detectors rank what their encoders found differently, and row i of
    one is another object of the other.

    Args:
        detector (nn.Module): As for :func:`recording_proposals`.
        proposals (list[Tensor]): What that wrote down.
    """
    chosen = iter(proposals[:1])
    kept = iter(proposals[1:])

    def replay(inputs: dict) -> dict:
        points = next(chosen)
        changed = dict(inputs, reference_points=points)
        if hasattr(detector, 'pos_trans_fc'):
            # Deformable DETR makes queries of boxes; DINO has the same ones.
            found = detector.get_proposal_pos_embed(torch.logit(points, 1e-6))
            found = detector.pos_trans_norm(detector.pos_trans_fc(found))
            changed['query_pos'], changed['query'] = found.chunk(2, dim=2)
        return changed

    def nms(*_) -> tuple:
        return None, next(kept)

    with changing_decoder_inputs(detector, replay), changing_nms(nms):
        yield


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


@contextmanager
def changing_nms(nms: Callable[..., tuple]) -> Iterator[None]:
    """Change how DDQ-DETR keeps one of several boxes that overlap.

    Args:
        nms (Callable): In place of mmcv's ``batched_nms``.
    """
    with (
        temporarily(ddq_detr, batched_nms=nms),
        temporarily(ddq_detr_layers, batched_nms=nms),
    ):
        yield


@contextmanager
def last_layer_only(head: nn.Module, num_layers: int) -> Iterator[None]:
    """Let a head match and compare for its last decoder layer alone.

    Matching the queries of all layers, and of the encoder's proposals, takes
    long, and what does not count need not be known. It is 0 then, or left
    out.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        num_layers (int): Number of its decoder layers.
    """
    layers = itertools.count(1)

    def only_the_last(compute: Callable) -> Callable:
        def changed(cls_scores: Tensor, *args, **kwargs) -> tuple:
            # Decoder layers come first, the encoder's proposals after them.
            if next(layers) == num_layers:
                return compute(cls_scores, *args, **kwargs)
            return (cls_scores.new_zeros(()),) * 3

        return changed

    names = ['loss_by_feat_single']
    with ExitStack() as stack:
        if isinstance(head, DDQDETRHead):
            names.append('_loss_for_distinct_queries_single')
            of_dense = head.aux_loss_for_dense
            stack.enter_context(temporarily(of_dense, loss=lambda *_: {}))
        patches = {name: only_the_last(getattr(head, name)) for name in names}
        stack.enter_context(temporarily(head, **patches))
        yield


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
