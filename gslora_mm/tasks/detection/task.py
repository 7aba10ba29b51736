from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gslora_mm.registry import TASKS
from gslora_mm.utils import ConfigError
from ..base import BaseTask, is_of_type, pick_metric
from ..half_batch import ROLES, HalfBatch
from ..object_rows import ObjectRows
from .encoder import encoded, encoder_is_frozen

QUERIES = ('all', 'matched')
#: Entries of detectors whose classes are texts.
_OF_TEXTS = ('language_model', 'lang_model_name')


@TASKS.register_module()
class DetectionTask(BaseTask):
    """Detectors of the DETR family in mmdet.

    mmdet names the terms of the last decoder layer ``loss_cls``,
    ``loss_bbox`` and ``loss_iou``; earlier layers (``d0.``), the encoder
    (``enc_``), denoising (``dn_``) and the dense queries of DDQ-DETR
    (``0_aux_``, ``aux_enc_``) are told by their prefix.

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
    scope = 'mmdet'
    metric = 'mAP'
    score_name = 'AP'
    unit = 'object'
    prediction_dump = 'DumpDetResults'
    picture_note = 'A dashed box should be gone.'
    trunk = ('backbone', 'neck')
    prototype_source = 'class_layer'
    has_background = True
    head = 'bbox_head'

    def __init__(
        self, aux_loss: dict | None = None, forget_queries: str = 'all'
    ) -> None:
        aux_loss = aux_loss or {}
        if (
            not isinstance(aux_loss, Mapping)
            or not set(aux_loss) <= {'retain'}
            or not all(isinstance(value, bool) for value in aux_loss.values())
        ):
            raise ConfigError(
                'task.aux_loss',
                aux_loss,
                'only dict(retain=True) or dict(retain=False) is possible; '
                'the forget half takes no auxiliary losses',
            )
        if forget_queries not in QUERIES:
            raise ConfigError(
                'task.forget_queries',
                forget_queries,
                f'must be one of {QUERIES}',
            )
        self.queries = dict(forget=forget_queries, retain='all')
        self.aux_loss = {role: aux_loss.get(role, False) for role in ROLES}

    def prepare_config(self, model: dict) -> None:
        """Refuse what reads texts, before its language model is loaded."""
        texts = [key for key in _OF_TEXTS if model.get(key)]
        if texts:
            raise _not_of_the_family(
                model.get('type'), f'; it reads texts ({texts[0]})'
            )

    def check_model(self, model: nn.Module) -> None:
        from mmdet.models.detectors.base_detr import DetectionTransformer

        if not isinstance(model, DetectionTransformer) or hasattr(
            model, 'language_model'
        ):
            raise _not_of_the_family(type(model).__name__)

    def try_model(self, model: nn.Module) -> None:
        """See :meth:`BaseTask.try_model`; heads of mmdet are known."""
        head = model.bbox_head
        if type(head).__module__.startswith('mmdet.models.'):
            return
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        size = (320, 320)  # more places than a two-stage detector has queries
        sample = DetDataSample(
            metainfo=dict(
                img_id=0,
                img_shape=size,
                ori_shape=size,
                batch_input_shape=size,
                scale_factor=(1.0, 1.0),
            ),
            gt_instances=InstanceData(
                bboxes=torch.tensor([[32.0, 32.0, 160.0, 160.0]]),
                labels=torch.tensor([0]),
            ),
        )
        inputs, index = torch.zeros(1, 3, *size), torch.tensor([0])
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                maps = self.extract(model, inputs)
                half = self.half(
                    model, inputs, maps, [sample], index, 'retain'
                )
                torch.stack([half.loss_cls, half.loss_rest])
                if not len(half.features) == len(half.labels) == 1:
                    raise ValueError('its queries are not matched one to one')
        except Exception as error:
            raise ConfigError(
                'model.bbox_head.type',
                type(head).__name__,
                f'its losses cannot be read ({type(error).__name__}: {error}'
                '); DetectionTask reads heads that ask get_targets, once a '
                "decoder layer, for the targets of its queries, as mmdet's "
                'DETRHead does; such a head is DeformableDETRHead',
            ) from error

    def num_classes(self, model: nn.Module) -> int:
        return model.bbox_head.num_classes

    def class_layer(self, model: nn.Module) -> nn.Module:
        head = model.bbox_head
        if hasattr(head, 'cls_branches'):
            # One a decoder layer, and one more for the encoder's proposals.
            layer = head.cls_branches[model.decoder.num_layers - 1]
        else:
            layer = getattr(head, 'fc_cls', None)
        weight = getattr(layer, 'weight', None)
        if weight is None or weight.shape[0] < head.num_classes:
            raise ConfigError(
                'model.bbox_head.type',
                type(head).__name__,
                'it has no linear class layer (cls_branches or fc_cls with '
                f'a row for each of the {head.num_classes} classes), of '
                'which prototypes of the classes could be taken',
            )
        return layer

    def class_layers(self, model: nn.Module) -> list[nn.Module]:
        last = self.class_layer(model)
        # The second are of DDQ-DETR's dense queries.
        parts = ('cls_branches', 'aux_cls_branches')
        found = [getattr(model.bbox_head, part, ()) for part in parts]
        return [*found[0], *found[1]] or [last]

    def object_rows(self, model: nn.Module, batch: dict) -> ObjectRows:
        from .rows import detection_rows

        return detection_rows(model, batch)

    def extract(self, model: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
        return model.extract_feat(inputs)

    def frozen_modules(self, model: nn.Module) -> list[nn.Module]:
        modules = super().frozen_modules(model)
        if encoder_is_frozen(model):
            modules.append(model.encoder)
        return modules

    def extract_frozen(
        self, model: nn.Module, inputs: Tensor, data_samples: Sequence
    ) -> tuple[Tensor, ...]:
        maps = self.extract(model, inputs)
        if not encoder_is_frozen(model):
            return maps
        return encoded(model, maps, data_samples)

    def half(
        self,
        model: nn.Module,
        inputs: Tensor,
        trunk_output: tuple[Tensor, ...],
        data_samples: Sequence,
        index: Tensor,
        role: str,
    ) -> HalfBatch:
        # Imported here, so that whoever only asks what a task is called or
        # how it is scored does without mmdet.
        from .half import DetectionHalf

        return DetectionHalf(
            model,
            inputs[index],
            trunk_output,
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
    ) -> dict | list[dict]:
        """See :meth:`BaseTask.evaluator`.

        Boxes are scored, whatever else the metric of the config scores, and
        always: ``format_only`` would leave a step without a figure. With
        ``FasterCocoMetric`` its package matches them. Further metrics of a
        list are passed on.
        """
        coco, others = pick_metric(
            evaluator,
            ('CocoMetric', 'FasterCocoMetric', 'ForgettingCocoMetric'),
            'detection is scored by COCO AP, so it must be '
            "dict(type='CocoMetric', ann_file=...), or a list with one of "
            'these and other metrics',
        )
        metrics = coco.get('metric', 'bbox')
        listed = metrics if isinstance(metrics, list | tuple) else [metrics]
        if 'bbox' not in listed:
            raise ConfigError(
                'val_evaluator.metric',
                metrics,
                "must be 'bbox', or a list with it",
            )
        own = {
            **coco,
            'type': 'gslora_mm.ForgettingCocoMetric',
            'metric': 'bbox',
            'format_only': False,
            'splits': splits,
            'only_split_images': only_split_images,
            # All data sets of a sequence number their labels so.
            'by_name': True,
        }
        if is_of_type(coco, 'FasterCocoMetric'):
            own['faster'] = True
        return [own, *others] if others else own

    def picture_hook(
        self, show_dir: str | None, work_dir: str, **shown: Any
    ) -> dict:
        # mmdet puts the folder into the work dir.
        kind = 'DetVisualizationHook'
        return dict(type=kind, draw=True, test_out_dir=show_dir, **shown)


def _not_of_the_family(name: Any, more: str = '') -> ConfigError:
    return ConfigError(
        'model.type',
        name,
        'is not a detector of the DETR family with a fixed set of '
        f"classes{more}; DetectionTask reads models derived from mmdet's "
        'DetectionTransformer (DeformableDETR, DETR, ConditionalDETR, '
        'DABDETR, DINO, DDQDETR, ...)',
    )
