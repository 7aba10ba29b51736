import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss, QualityFocalLoss
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from gslora_mm.registry import TASKS
from gslora_mm.utils import ConfigError
from .base import ROLES, BaseTask, HalfBatch, Seen
from .precision import in_full_precision, without_autocast

QUERIES = ('all', 'matched')


class DetectionHalf(HalfBatch):
    """One half of a detection batch.

    The transformer and the head of the detector run on this half alone, so
    that the matching, the normalisation of the losses and the denoising
    queries are those of an ordinary mmdet batch.

    The head runs in full precision even where the rest does not. What is to
    be forgotten is pushed to scores far below those of ordinary training:
    from -17.3 on, their sigmoid is 0 in float16, and the focal loss not a
    number.

    Args:
        model (nn.Module): A ``DetectionTransformer`` of mmdet.
        inputs (Tensor): Preprocessed images of this half, (n, 3, H, W).
        features (tuple[Tensor]): Feature maps of the whole batch,
            (N, C, H, W).
        index (Tensor): Which of these are of this half, shape (n, ).
        data_samples (list[DetDataSample]): Samples of this half.
        role (str): ``'forget'`` or ``'retain'``.
        aux_loss (bool): Whether the losses of the earlier decoder layers,
            of the encoder's proposals and of denoising queries count.
        queries (str): ``'all'`` or ``'matched'``, see :class:`DetectionTask`.
        emptied (Tensor, optional): Classes whose objects are background, see
            :func:`emptied_losses`. Defaults to None.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        features: tuple[Tensor, ...],
        index: Tensor,
        data_samples: list,
        role: str,
        aux_loss: bool,
        queries: str,
        emptied: Tensor | None = None,
    ) -> None:
        super().__init__(role, len(data_samples))
        self._model = model
        self._inputs = inputs
        self._features = features
        self._index = index
        self._data_samples = data_samples
        self._aux_loss = aux_loss
        self._queries = queries
        self._emptied = emptied
        # Of a detector that chooses its queries by the image.
        self._proposals: list[Tensor] = []

    def _own_features(self) -> tuple[Tensor, ...]:
        """Feature maps of this half.

        Selected anew for each pass over them, so that two passes can be
        back-propagated one after the other.
        """
        return tuple(feature[self._index] for feature in self._features)

    @property
    def _loss_function(self) -> Callable:
        if self._emptied is not None:
            return partial(emptied_losses, classes=self._emptied)
        return dict(all=all_losses, matched=matched_losses)[self._queries]

    @cached_property
    def _outputs(self) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        """What one forward pass gives.

        Returns:
            tuple: All losses; of the last decoder layer the embeddings of
            the queries (n, queries, C), the scores (n, queries, classes)
            and the assigned labels (n, queries).
        """
        with (
            _flagged_as_training(self._model),
            _proposals_kept(self._model, self._proposals),
        ):
            head_inputs = self._model.forward_transformer(
                self._own_features(), self._data_samples
            )
        head = self._model.bbox_head
        inputs = in_full_precision(head_inputs)
        inputs['batch_data_samples'] = self._data_samples
        hidden = inputs['hidden_states']
        with without_autocast(self._inputs):
            if self._aux_loss:
                losses, targets = self._loss_function(head, inputs)
            else:
                with _last_layer_only(head, len(hidden)):
                    losses, targets = self._loss_function(head, inputs)

        scores, labels = map(torch.stack, _last_layer(targets, hidden))
        # Denoising queries stand before those that are matched.
        return losses, hidden[-1][:, -labels.shape[1] :], scores, labels

    @cached_property
    def _is_matched(self) -> Tensor:
        return self._outputs[3] < self._model.bbox_head.num_classes

    @cached_property
    def losses(self) -> dict[str, Tensor]:
        """Loss terms by mmdet's names, those that do not count left out."""
        return {
            # Synchronised averages leave a dimension of size one.
            name: loss.mean()
            for name, loss in self._outputs[0].items()
            if self._aux_loss or name.startswith('loss_')
        }

    @property
    def loss_cls(self) -> Tensor:
        return self.losses['loss_cls']

    @property
    def loss_rest(self) -> Tensor:
        return sum(v for name, v in self.losses.items() if name != 'loss_cls')

    @property
    def loss_background(self) -> Tensor:
        head, is_empty = self._model.bbox_head, ~self._is_matched
        # As loss_by_feat_single of mmdet's heads counts them.
        count = is_empty.new_tensor(
            [(~is_empty).sum() + is_empty.sum() * head.bg_cls_weight],
            dtype=torch.float,
        )
        if head.sync_cls_avg_factor:
            count = reduce_mean(count)
        _, _, scores, labels = self._outputs
        targets = labels[is_empty]
        if isinstance(head.loss_cls, QualityFocalLoss):
            targets = (targets, scores.new_zeros(len(targets)))
        return head.loss_cls(
            scores[is_empty], targets, avg_factor=count.clamp(min=1)
        ).sum()

    @property
    def features(self) -> Tensor:
        return self._outputs[1][self._is_matched]

    @property
    def logits(self) -> Tensor:
        return self._outputs[2][self._is_matched]

    @property
    def labels(self) -> Tensor:
        return self._outputs[3][self._is_matched]

    @property
    def activation(self) -> str:
        is_sigmoid = self._model.bbox_head.loss_cls.use_sigmoid
        return 'sigmoid' if is_sigmoid else 'softmax'

    def seen_by(self, model: nn.Module) -> Seen:
        is_matched = self._is_matched  # chooses the queries, too
        # A trunk that is trained, too, is not what it was.
        is_trained = any(feature.requires_grad for feature in self._features)
        if model is not self._model or is_trained:
            features = model.extract_feat(self._inputs)
        else:
            features = self._own_features()
        with (
            _flagged_as_training(model),
            _proposals_given(model, self._proposals),
        ):
            found = model.forward_transformer(features, self._data_samples)
        found = in_full_precision(found)
        head = model.bbox_head
        names = inspect.signature(head.forward).parameters
        with without_autocast(self._inputs):
            scores = head(**{name: found[name] for name in names})[0][-1]
        num_queries = is_matched.shape[1]
        # Denoising queries stand before those that are matched.
        hidden = found['hidden_states'][-1][:, -num_queries:]
        scores = scores[:, -num_queries:]
        return Seen(hidden[is_matched], scores[is_matched])

    def relabelled(self, draw: Callable[[Tensor], Tensor]) -> 'DetectionHalf':
        labels = [s.gt_instances.labels for s in self._data_samples]
        drawn = [draw(x) for x in labels]
        emptied, samples = None, []
        if self._queries == 'matched' and any((y < 0).any() for y in drawn):
            # Their queries are found by matching, so these objects stay.
            gone = [x[y < 0] for x, y in zip(labels, drawn, strict=True)]
            emptied = torch.cat(gone).unique()
            kept = torch.cat([y[y >= 0] for y in drawn])
            if torch.isin(kept, emptied).any():
                raise ValueError(
                    f'draw makes objects of classes {emptied.tolist()} '
                    'background, and gives other objects these classes; '
                    "with forget_queries='matched' it has to be one or the "
                    'other for all objects of a class'
                )
            drawn = [
                torch.where(y < 0, x, y)
                for x, y in zip(labels, drawn, strict=True)
            ]
        for sample, wrong in zip(self._data_samples, drawn, strict=True):
            sample = sample.clone()
            objects = sample.gt_instances.clone()
            objects.labels = wrong
            sample.gt_instances = objects[wrong >= 0]
            samples.append(sample)
        return DetectionHalf(
            self._model,
            self._inputs,
            self._features,
            self._index,
            samples,
            self.role,
            self._aux_loss,
            self._queries,
            emptied,
        )


@contextmanager
def _flagged_as_training(detector: nn.Module) -> Iterator[None]:
    """Let a detector in evaluation mode give its head what losses need.

    mmdet's detectors tell by their own flag, not by those of their layers,
    whether to compute that.
    """
    flag = detector.training
    detector.training = True
    try:
        yield
    finally:
        detector.training = flag


@contextmanager
def _replaced(owner: nn.Module, name: str, method: Callable) -> Iterator[None]:
    """Give one object another method for a while."""
    before = vars(owner).get(name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        # The method of the class is back, or what had replaced it.
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)


@contextmanager
def _proposals_kept(
    detector: nn.Module, proposals: list[Tensor]
) -> Iterator[None]:
    """Write down the boxes that a two-stage detector's queries start from.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet; nothing is
            done if its queries are the same for all images.
        proposals (list[Tensor]): What it chose is put here, of shape
            (n, queries, 4), denoising queries before the others.
    """

    def keep(inputs: dict) -> dict:
        proposals[:] = [inputs['reference_points'].detach()]
        return inputs

    with _decoder_inputs_changed(detector, keep):
        yield


@contextmanager
def _proposals_given(
    detector: nn.Module, proposals: list[Tensor]
) -> Iterator[None]:
    """Let a two-stage detector start from boxes that another one chose.

    Two detectors rank what their encoders found differently, and row i of
    one is another object of the other.

    Args:
        detector (nn.Module): As for :func:`_proposals_kept`.
        proposals (list[Tensor]): What that wrote down.
    """

    def give(inputs: dict) -> dict:
        (points,) = proposals
        changed = dict(inputs, reference_points=points)
        if hasattr(detector, 'pos_trans_fc'):
            # Deformable DETR makes queries of boxes; DINO has the same ones.
            found = detector.get_proposal_pos_embed(torch.logit(points, 1e-6))
            found = detector.pos_trans_norm(detector.pos_trans_fc(found))
            changed['query_pos'], changed['query'] = found.chunk(2, dim=2)
        return changed

    with _decoder_inputs_changed(detector, give):
        yield


@contextmanager
def _decoder_inputs_changed(
    detector: nn.Module, change: Callable[[dict], dict]
) -> Iterator[None]:
    if not getattr(detector, 'as_two_stage', False):
        yield
        return
    pre_decoder = detector.pre_decoder

    def changed(*args, **kwargs) -> tuple[dict, dict]:
        inputs, head_inputs = pre_decoder(*args, **kwargs)
        return change(inputs), head_inputs

    with _replaced(detector, 'pre_decoder', changed):
        yield


@contextmanager
def _last_layer_only(head: nn.Module, num_layers: int) -> Iterator[None]:
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

    with _replaced(head, 'loss_by_feat_single', only_the_last):
        yield


def _last_layer(found: Sequence, hidden: Sequence) -> Any:
    """What was found for the last decoder layer, of all or of it alone."""
    return found[min(len(hidden), len(found)) - 1]


#: For each image the scores (queries, classes) of a layer, and the labels
#: (queries, ) that they are trained for.
LayerTargets = tuple[list[Tensor], list[Tensor]]


def all_losses(
    head: nn.Module, inputs: dict, get_targets: Callable | None = None
) -> tuple[dict[str, Tensor], list[LayerTargets]]:
    """Losses of a head, and what its queries are trained for.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        inputs (dict): Arguments of its ``loss``.
        get_targets (Callable, optional): What decides in place of the
            head's own ``get_targets``. Defaults to None.

    Returns:
        tuple: The losses as from ``head.loss``, and scores and labels of
        each layer that is compared, in the order of their computation.
    """
    get_targets = get_targets or head.get_targets
    found: list[LayerTargets] = []

    def remember(cls_scores: list[Tensor], *args) -> tuple:
        labels, *others = get_targets(cls_scores, *args)
        found.append((cls_scores, labels))
        return (labels, *others)

    with _replaced(head, 'get_targets', remember):
        return head.loss(**inputs), found


def matched_losses(
    head: nn.Module, inputs: dict
) -> tuple[dict[str, Tensor], list[LayerTargets]]:
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

    Returns:
        tuple: As from :func:`all_losses`.
    """
    get_targets = head.get_targets
    by_class = isinstance(head.loss_cls, FocalLoss)
    others: list[Tensor] = []

    def without_unmatched(cls_scores: list[Tensor], *args) -> tuple:
        labels, weights, *boxes, num_pos, _ = get_targets(cls_scores, *args)
        matched = _of_matched(head, labels, weights)
        if by_class:
            own = _own_class(head, labels, matched)
            other = torch.cat(matched)[:, None] - torch.cat(own)
            others.append(
                head.loss_cls(
                    torch.cat(cls_scores),
                    torch.cat(labels),
                    other,
                    avg_factor=_count(head, num_pos, other),
                )
            )
            matched = own
        # No unmatched query is left for the average to count.
        return (labels, matched, *boxes, num_pos, 0)

    losses, found = all_losses(head, inputs, without_unmatched)
    if by_class:
        last = _last_layer(others, inputs['hidden_states'])
        losses['loss_other_classes'] = last
    return losses, found


def emptied_losses(
    head: nn.Module, inputs: dict, classes: Tensor
) -> tuple[dict[str, Tensor], list[LayerTargets]]:
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
        classes (Tensor): Class ids, shape (K, ).

    Returns:
        tuple: As from :func:`all_losses`; no query has a label of
        ``classes``.
    """
    get_targets = head.get_targets
    by_class = isinstance(head.loss_cls, FocalLoss)
    own_class: list[Tensor] = []

    def without_objects(cls_scores: list[Tensor], *args) -> tuple:
        labels, weights, boxes, box_weights, num_pos, _ = get_targets(
            cls_scores, *args
        )
        matched = _of_matched(head, labels, weights)
        is_empty = [torch.isin(label, classes) for label in labels]
        emptied = [
            label.masked_fill(empty, head.num_classes)
            for label, empty in zip(labels, is_empty, strict=True)
        ]
        kept_boxes = [
            weight * ~empty[:, None]
            for weight, empty in zip(box_weights, is_empty, strict=True)
        ]
        if by_class:
            gone = [w * e for w, e in zip(matched, is_empty, strict=True)]
            own = _own_class(head, labels, gone)
            with _without_focus(head.loss_cls):
                own_class.append(
                    head.loss_cls(
                        torch.cat(cls_scores),
                        torch.cat(emptied),
                        torch.cat(own),
                        avg_factor=_count(head, num_pos, own[0]),
                    )
                )
            matched = [
                weight[:, None] - o
                for weight, o in zip(matched, own, strict=True)
            ]
        elif head.bg_cls_weight:
            matched = [
                weight * torch.where(empty, 1 / head.bg_cls_weight, 1.0)
                for weight, empty in zip(matched, is_empty, strict=True)
            ]
        return (emptied, matched, boxes, kept_boxes, num_pos, 0)

    if by_class:
        losses, found = all_losses(head, inputs, without_objects)
        last = _last_layer(own_class, inputs['hidden_states'])
        losses['loss_cls'] = losses['loss_cls'] + last
        return losses, found
    with _without_focus(head.loss_cls):
        return all_losses(head, inputs, without_objects)


def _of_matched(
    head: nn.Module, labels: list[Tensor], weights: list[Tensor]
) -> list[Tensor]:
    """Weights of queries, (queries, ) an image, 0 where none is matched."""
    return [
        weight * (label < head.num_classes)
        for weight, label in zip(weights, labels, strict=True)
    ]


def _own_class(
    head: nn.Module, labels: list[Tensor], weights: list[Tensor]
) -> list[Tensor]:
    """Weights of scores, (queries, classes) an image: of the label alone."""
    return [
        weight[:, None] * F.one_hot(label, head.num_classes + 1)[:, :-1]
        for weight, label in zip(weights, labels, strict=True)
    ]


def _count(head: nn.Module, num_pos: int, like: Tensor) -> Tensor:
    """What mmdet's heads divide a loss of matched queries by."""
    count = like.new_tensor([num_pos], dtype=torch.float)
    if head.sync_cls_avg_factor:
        count = reduce_mean(count)
    return count.clamp(min=1)


@contextmanager
def _without_focus(loss: nn.Module) -> Iterator[None]:
    """Make a focal loss a (balanced) binary cross-entropy for a while."""
    if not isinstance(loss, FocalLoss | QualityFocalLoss):
        yield
        return
    name = 'gamma' if isinstance(loss, FocalLoss) else 'beta'
    focus = getattr(loss, name)
    setattr(loss, name, 0.0)
    try:
        yield
    finally:
        setattr(loss, name, focus)


@TASKS.register_module()
class DetectionTask(BaseTask):
    """Detectors of the DETR family in mmdet.

    mmdet names the terms of the last decoder layer ``loss_cls``,
    ``loss_bbox`` and ``loss_iou``; earlier layers (``d0.``), the encoder
    (``enc_``) and denoising (``dn_``) are told by their prefix.

    Args:
        aux_loss (dict): Whether auxiliary losses count, for each half. The
            papers switch them off for both; for the forget half they stay
            off, because the bound of the forgetting loss is set for the
            loss of one layer. Defaults to ``dict(retain=False)``.
        forget_queries (str): What of the forget half's classification loss
            is pushed up. ``'all'`` of it, as in the papers; or only the
            score of an object's own class at the query ``'matched'`` to it,
            while the scores of the other classes there keep their sign like
            the boxes: the object turns into background. Of all queries the
            loss can reach its bound with nothing forgotten, by finding the
            objects whose annotations were dropped with ever more
            confidence, or by taking a forgotten object for another class.
            The same choice for objects that a method relabels as
            background: they are dropped and ``'all'`` queries trained, or
            only the queries ``'matched'`` to them. Defaults to ``'all'``.
    """

    name = 'detection'
    metric = 'mAP'
    score_name = 'AP'
    unit = 'object'
    picture_note = 'A dashed box should be gone.'
    trunk = ('backbone', 'neck')
    prototype_source = 'class_layer'
    has_background = True

    def __init__(
        self, aux_loss: dict | None = None, forget_queries: str = 'all'
    ) -> None:
        aux_loss = dict(aux_loss or {})
        if not set(aux_loss) <= {'retain'} or not all(
            isinstance(value, bool) for value in aux_loss.values()
        ):
            raise ConfigError(
                f'task.aux_loss = {aux_loss}: only dict(retain=True) or '
                'dict(retain=False) is possible; the forget half takes no '
                'auxiliary losses'
            )
        if forget_queries not in QUERIES:
            raise ConfigError(
                f'task.forget_queries = {forget_queries!r}: must be one of '
                f'{QUERIES}'
            )
        self.queries = dict(forget=forget_queries, retain='all')
        self.aux_loss = {role: aux_loss.get(role, False) for role in ROLES}

    def check_model(self, model: nn.Module) -> None:
        from mmdet.models.detectors import DDQDETR
        from mmdet.models.detectors.base_detr import DetectionTransformer

        if not isinstance(model, DetectionTransformer) or hasattr(
            model, 'language_model'
        ):
            raise ConfigError(
                f'model.type = {type(model).__name__!r} is not a detector of '
                'the DETR family with a fixed set of classes; DetectionTask '
                "reads models derived from mmdet's DetectionTransformer "
                '(DeformableDETR, DETR, ConditionalDETR, DABDETR, DINO, ...)'
            )
        if isinstance(model, DDQDETR):
            raise ConfigError(
                f'model.type = {type(model).__name__!r}: its dense queries '
                'and the ones it drops by image are not read; use a detector '
                'whose queries are the same for all images, such as DINO'
            )

    def num_classes(self, model: nn.Module) -> int:
        return model.bbox_head.num_classes

    def class_weights(self, model: nn.Module) -> Tensor:
        head = model.bbox_head
        if hasattr(head, 'cls_branches'):
            # One a decoder layer, and one more for the encoder's proposals.
            layer = head.cls_branches[model.decoder.num_layers - 1]
        else:
            layer = getattr(head, 'fc_cls', None)
        weight = getattr(layer, 'weight', None)
        if weight is None or weight.shape[0] < head.num_classes:
            raise ConfigError(
                f'model.bbox_head.type = {type(head).__name__!r}: it has no '
                'linear class layer (cls_branches or fc_cls with a row for '
                f'each of the {head.num_classes} classes), of which '
                'prototypes of the classes could be taken'
            )
        # With a softmax, the background is the last row.
        return weight[: head.num_classes].detach().clone()

    def extract(self, model: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
        return model.extract_feat(inputs)

    def half(
        self,
        model: nn.Module,
        inputs: Tensor,
        features: tuple[Tensor, ...],
        data_samples: Sequence,
        index: Tensor,
        role: str,
    ) -> DetectionHalf:
        return DetectionHalf(
            model,
            inputs[index],
            features,
            index,
            [data_samples[i] for i in index.tolist()],
            role,
            self.aux_loss[role],
            self.queries[role],
        )

    def evaluator(
        self,
        evaluator: dict | list[dict],
        splits: dict[str, list[str]],
        only_split_images: bool,
    ) -> dict:
        known = ('CocoMetric', 'ForgettingCocoMetric')
        if (
            not isinstance(evaluator, dict)
            or str(evaluator.get('type')).split('.')[-1] not in known
        ):
            raise ConfigError(
                f'val_evaluator = {evaluator!r}: detection is scored by COCO '
                "AP, so it must be one dict(type='CocoMetric', ann_file=...)"
            )
        metrics = evaluator.get('metric', 'bbox')
        if metrics not in ('bbox', ['bbox']):
            raise ConfigError(
                f"val_evaluator.metric = {metrics!r}: must be 'bbox'"
            )
        return {
            **evaluator,
            'type': 'gslora_mm.ForgettingCocoMetric',
            'splits': splits,
            'only_split_images': only_split_images,
        }
