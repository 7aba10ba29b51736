from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.losses import QualityFocalLoss
from torch import Tensor, nn

from gslora_mm.models.losses import distillation_loss
from gslora_mm.utils.precision import in_full_precision, without_autocast
from ..half_batch import (
    HalfBatch,
    Seen,
    View,
    kept_columns,
    presence_loss,
    without_columns,
)
from ..object_rows import recorded
from .encoder import is_encoded, without_encoder
from .losses import (
    HeadLosses,
    all_losses,
    box_shifts,
    emptied_losses,
    matched_losses,
    mean_count,
)
from .painting import painted_over
from .patches import (
    computing_losses,
    last_layer_only,
    recording_proposals,
    replaying_proposals,
)
from .queries import AskedQueries
from .rows import head_outputs, layer_depths, neck_tokens


@dataclass(eq=False, repr=False)
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
        feature_maps (tuple[Tensor]): Those of the whole batch,
            (N, C, H, W), or what a frozen encoder makes of them, see
            :func:`~gslora_mm.tasks.detection.encoder.encoded`.
        index (Tensor): Which of these are of this half, shape (n, ).
        data_samples (list[DetDataSample]): Samples of this half.
        role (str): ``'forget'`` or ``'retain'``.
        aux_loss (bool): Whether the losses of the earlier decoder layers,
            of the encoder's proposals, and of denoising and dense queries
            count.
        queries (str): ``'all'`` or ``'matched'``, see :class:`DetectionTask`.
        emptied (Tensor, optional): Classes whose objects are background, see
            :func:`emptied_losses`. Defaults to None.
    """

    model: nn.Module
    inputs: Tensor
    feature_maps: tuple[Tensor, ...]
    index: Tensor
    data_samples: list
    role: str
    aux_loss: bool
    queries: str
    emptied: Tensor | None = None
    # Of a detector that chooses its queries by the image.
    _proposals: list[Tensor] = field(default_factory=list, init=False)
    _layers: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__init__(self.role, len(self.data_samples))

    def _own_feature_maps(self) -> tuple[Tensor, ...]:
        """Feature maps of this half.

        Selected anew for each pass over them, so that two passes can be
        back-propagated one after the other.
        """
        return tuple(maps[self.index] for maps in self.feature_maps)

    @cached_property
    def _outputs(self) -> HeadLosses:
        """What one forward pass gives."""
        head, compute = self.model.bbox_head, all_losses
        if self.emptied is not None:
            compute = partial(emptied_losses, classes=self.emptied)
        elif self.queries == 'matched':
            compute = matched_losses
        without, maps = without_encoder(self.model, self._own_feature_maps())
        with (
            without,
            computing_losses(self.model),
            recording_proposals(self.model, self._proposals),
            recorded(layer_depths(self.model)) as self._layers,
        ):
            inputs = self.model.forward_transformer(maps, self.data_samples)
        inputs = in_full_precision(inputs)
        inputs['batch_data_samples'] = self.data_samples
        with computing_losses(self.model), without_autocast(self.inputs):
            if self.aux_loss:
                return compute(head, inputs)
            with last_layer_only(head, len(inputs['hidden_states'])):
                return compute(head, inputs)

    @cached_property
    def losses(self) -> dict[str, Tensor]:
        """Loss terms by mmdet's names, those that do not count left out."""
        return {
            # Synchronised averages leave a dimension of size one; some
            # losses come image by image.
            name: sum(each.mean() for each in loss)
            if isinstance(loss, list)
            else loss.mean()
            for name, loss in self._outputs.losses.items()
            if self.aux_loss or name.startswith('loss_')
        }

    @property
    def loss_cls(self) -> Tensor:
        return self.losses['loss_cls']

    @property
    def loss_rest(self) -> Tensor:
        return sum(v for name, v in self.losses.items() if name != 'loss_cls')

    @property
    def loss_background(self) -> Tensor:
        head, found = self.model.bbox_head, self._outputs
        is_empty = ~found.is_matched
        scores, targets = found.scores[is_empty], found.labels[is_empty]
        if isinstance(head.loss_cls, QualityFocalLoss):
            targets = (targets, scores.new_zeros(len(targets)))
        count = mean_count(
            head, found.is_matched.sum(), is_empty.sum(), scores
        )
        return head.loss_cls(scores, targets, avg_factor=count).sum()

    @property
    def features(self) -> Tensor:
        return self._outputs.hidden[self._outputs.is_matched]

    @property
    def logits(self) -> Tensor:
        return self._outputs.scores[self._outputs.is_matched]

    @property
    def labels(self) -> Tensor:
        return self._outputs.labels[self._outputs.is_matched]

    @property
    def activation(self) -> str:
        is_sigmoid = self.model.bbox_head.loss_cls.use_sigmoid
        return 'sigmoid' if is_sigmoid else 'softmax'

    def seen_by(self, model: nn.Module) -> Seen:
        is_matched = self._outputs.is_matched
        found = self._queries_of(model)
        scores, _ = found.outputs
        return Seen(found.hidden[is_matched], scores[is_matched])

    def outputs_of(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        return self._queries_of(model).outputs

    @property
    def layers(self) -> dict[str, Tensor]:
        layers = _of_asked(self._outputs.asked, self._layers)
        if is_encoded(self.feature_maps):
            # The encoder is frozen, and what its layers give is not kept.
            with torch.no_grad():
                found = self._queries_of(self.model, from_image=True).layers
            layers = {**found, **layers}
        layers.pop('neck', None)
        if any(maps.requires_grad for maps in self.feature_maps):
            # Of a frozen trunk it is what it was.
            layers['neck'] = neck_tokens(self._own_feature_maps())
        return layers

    def view_of(self, model: nn.Module) -> View:
        found = self._queries_of(
            model, from_image=is_encoded(self.feature_maps)
        )
        return View(found.by_layer, found.layers)

    def without_objects(self, is_gone: Tensor) -> 'PaintedHalf':
        """These images with the objects of some classes painted over.

        Regions to be ignored are objects, too, see the ``'ignore'`` of
        :class:`~gslora_mm.datasets.ClassSubset`.

        Args:
            is_gone (Tensor): Whether a class is painted over,
                (num_classes, ). Objects of others stay whole.
        """
        asked = self._outputs.asked  # chooses them, too
        painted, spared = [], []
        for sample in self.data_samples:
            found = [sample.gt_instances]
            if 'ignored_instances' in sample:
                found.append(sample.ignored_instances)
            boxes = torch.cat([each.bboxes for each in found])
            labels = torch.cat([each.labels for each in found]).cpu()
            painted.append(boxes[is_gone[labels]])
            spared.append(boxes[~is_gone[labels]])
        inputs = painted_over(self.inputs, painted, spared)
        # A model that looks at it starts from the same proposals, if any.
        return PaintedHalf(inputs, self.data_samples, self._proposals, asked)

    def distance_to(
        self,
        outputs: tuple[Tensor, Tensor],
        is_kept: Tensor,
        ruled_out: bool = False,
    ) -> Tensor:
        """See :meth:`HalfBatch.distance_to`.

        Outputs of several decoder layers, (layers, rows, ...), are those of
        the last ones, and held in each.

        The other model's score of the likeliest class that is kept says how
        much of an object a query shows. It weighs the query's box, and the
        sum of these weights is the number of objects that both terms are
        means over. Boxes are compared in units of their size, by a loss that
        is smooth where they agree: the L1 and GIoU of training have a
        gradient there that holds the model where it is.
        """
        num_layers = len(outputs[0]) if outputs[0].dim() == 3 else 1
        own_scores, own_boxes = (
            each[-num_layers:].flatten(0, 1) for each in self._outputs.by_layer
        )
        scores, boxes = (each.flatten(0, -2) for each in outputs)
        weights, count = self._objects(scores, is_kept)
        columns = kept_columns(is_kept, scores)
        if ruled_out:
            scores = without_columns(scores, ~columns, self.activation)
            columns = slice(None)
        per_query = distillation_loss(
            own_scores[:, columns],
            scores[:, columns],
            activation=self.activation,
        )
        shifts = box_shifts(own_boxes, boxes)
        of_boxes = F.smooth_l1_loss(
            shifts, torch.zeros_like(shifts), beta=1 / 9, reduction='none'
        )
        of_boxes = (weights[:, None] * of_boxes).sum()
        return ((per_query * len(weights) + of_boxes) / count).sum()

    def presence_of(
        self,
        outputs: tuple[Tensor, Tensor] | None,
        is_gone: Tensor,
        margin: float = 0.0,
    ) -> Tensor:
        """See :meth:`HalfBatch.presence_of`.

        A query counts for as much of an object of these classes as the
        other model finds in it, or, without another, this one: all others,
        which are most, show nothing of them, and to push these down as well
        would cost what is kept.
        """
        scores = self._outputs.scores if outputs is None else outputs[0]
        weights, count = self._objects(scores, is_gone)
        found = presence_loss(
            self._outputs.scores, is_gone, margin, self.activation
        )
        return ((weights * found).sum() / count).sum()

    def _objects(
        self, scores: Tensor, is_asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How much of an object of some classes each query shows.

        Args:
            scores (Tensor): Shape (rows, columns).
            is_asked (Tensor): Whether a class is meant, (num_classes, ).

        Returns:
            tuple[Tensor, Tensor]: Scores of the likeliest of these classes,
            shape (rows, ), and the number of objects of a process,
            shape (1, ).
        """
        is_sigmoid = self.activation == 'sigmoid'
        found = scores.sigmoid() if is_sigmoid else scores.softmax(-1)
        columns = kept_columns(is_asked, scores, background=False)
        weights = found[:, columns].amax(-1).detach()
        return weights, mean_count(
            self.model.bbox_head, weights.sum(), 0, scores
        )

    def _queries_of(
        self, model: nn.Module, from_image: bool = False
    ) -> 'Queries':
        """What another model makes of all queries of this half."""
        asked = self._outputs.asked  # chooses them, too
        # A trunk that is trained, too, is not what it was.
        is_trained = any(maps.requires_grad for maps in self.feature_maps)
        if model is not self.model or is_trained or from_image:
            maps = model.extract_feat(self.inputs)
        else:
            maps = self._own_feature_maps()
        return queries_of(
            model, maps, self.data_samples, self._proposals, asked
        )

    def relabelled(self, draw: Callable[[Tensor], Tensor]) -> 'DetectionHalf':
        samples, gone, kept = [], [], []
        for sample in self.data_samples:
            sample = sample.clone()
            objects = sample.gt_instances.clone()
            drawn = draw(objects.labels)
            gone.append(objects.labels[drawn < 0])
            kept.append(drawn[drawn >= 0])
            if self.queries == 'matched':
                # Their queries are found by matching, so these objects stay.
                drawn = torch.where(drawn < 0, objects.labels, drawn)
            objects.labels = drawn
            sample.gt_instances = objects[drawn >= 0]
            samples.append(sample)
        emptied = None
        if self.queries == 'matched' and any(map(len, gone)):
            emptied = torch.cat(gone).unique()
            if torch.isin(torch.cat(kept), emptied).any():
                raise ValueError(
                    f'draw makes objects of classes {emptied.tolist()} '
                    'background, and gives other objects these classes; '
                    "with forget_queries='matched' it has to be one or the "
                    'other for all objects of a class'
                )
        return replace(self, data_samples=samples, emptied=emptied)


@dataclass(eq=False, repr=False)
class PaintedHalf:
    """Images without their objects, for another model to look at.

    Args:
        inputs (Tensor): Preprocessed images, (n, 3, H, W).
        data_samples (list[DetDataSample]): Samples of the half.
        proposals (list[Tensor]): What a two-stage detector starts from.
        asked (AskedQueries): Which of its queries count.
    """

    inputs: Tensor
    data_samples: list
    proposals: list[Tensor]
    asked: AskedQueries

    def view_of(self, model: nn.Module) -> View:
        """See :meth:`HalfBatch.view_of`."""
        found = queries_of(
            model,
            model.extract_feat(self.inputs),
            self.data_samples,
            self.proposals,
            self.asked,
        )
        return View(found.by_layer, found.layers)


class Queries(NamedTuple):
    """What a detector makes of the queries that are asked, a row each.

    Attributes:
        hidden (Tensor): Embeddings of the last decoder layer.
        by_layer (tuple[Tensor, Tensor]): As in :class:`HeadLosses`.
        layers (dict[str, Tensor]): See :class:`View`.
    """

    hidden: Tensor
    by_layer: tuple[Tensor, Tensor]
    layers: dict[str, Tensor]

    @property
    def outputs(self) -> tuple[Tensor, Tensor]:
        """Scores and boxes in the last decoder layer."""
        scores, boxes = self.by_layer
        return scores[-1], boxes[-1]


def queries_of(
    model: nn.Module,
    maps: tuple[Tensor, ...],
    data_samples: list,
    proposals: list[Tensor],
    asked: AskedQueries,
) -> Queries:
    """Let a detector look at images, from given proposals.

    Args:
        model (nn.Module): A ``DetectionTransformer`` of mmdet.
        maps (tuple[Tensor]): Its feature maps, (n, C, H, W), or what its
            encoder makes of them.
        data_samples (list[DetDataSample]): Samples of the images.
        proposals (list[Tensor]): See :func:`replaying_proposals`.
        asked (AskedQueries): Which of its queries count.
    """
    given = maps
    without, maps = without_encoder(model, maps)
    with (
        without,
        computing_losses(model),
        replaying_proposals(model, proposals),
        recorded(layer_depths(model)) as layers,
    ):
        found = model.forward_transformer(maps, data_samples)
    found = in_full_precision(found)
    with computing_losses(model), without_autocast(maps[0]):
        outputs = head_outputs(model.bbox_head, found)
    layers = _of_asked(asked, layers)
    if not is_encoded(given):
        layers['neck'] = neck_tokens(given)
    hidden = asked.of(found['hidden_states'][-1])
    return Queries(hidden, asked.of_layers(outputs), layers)


def _of_asked(
    asked: AskedQueries, layers: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Layers, those of the decoder with the rows of these queries alone."""
    return {
        name: asked.of(found) if name.startswith('decoder') else found
        for name, found in layers.items()
    }
