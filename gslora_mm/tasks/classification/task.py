import inspect
import os.path as osp
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from gslora_mm.registry import METRICS, TASKS
from gslora_mm.utils import ConfigError
from ..base import BaseTask, pick_metric
from ..object_rows import ObjectRows
from ..temporary import temporarily
from .first_blocks import frozen_blocks, tokens_after
from .half import ClassificationHalf
from .rows import classification_rows

#: Where the heads of mmpretrain keep their last class layer:
#: ``LinearClsHead``, ``VisionTransformerClsHead``, ``ArcFaceClsHead``.
CLASS_LAYERS = ('fc', 'layers.head', 'norm_product')
#: The metric of mmpretrain and the one in its place.
ACCURACIES = ('Accuracy', 'ForgettingAccuracy')


def class_layer(head: nn.Module) -> nn.Module | None:
    """The layer with a row of weights for each class, None if not found."""
    for path in CLASS_LAYERS:
        try:
            layer = attrgetter(path)(head)
        except AttributeError:
            continue
        if isinstance(layer, nn.Linear):
            return layer
    return None


@TASKS.register_module()
class ClassificationTask(BaseTask):
    """Image classifiers of mmpretrain with one class an image.

    ViT, DeiT, Swin, BEiT, EVA and every other backbone whose blocks hold an
    FFN, under a ``VisionTransformerClsHead``, a ``LinearClsHead`` or an
    ``ArcFaceClsHead``, and heads derived from these. The loss is the head's
    own, a margin included; features and logits have none.

    There is no trunk. What comes before the first adapter - patch embedding
    and the first attention - needs no gradients, and autograd keeps none;
    to run it once for both halves would cost as much as twice for one half
    each. Whole blocks of a ViT before it can be kept in a cache. Batch
    augmentations (Mixup, CutMix), which would blend images to forget with
    images to retain, are left out.
    """

    name = 'classification'
    scope = 'mmpretrain'
    metric = 'top1'
    score_name = 'Acc'
    unit = 'image'
    picture_note = (
        'The three likeliest classes, the true one in colour; a hatched bar '
        'should be gone.'
    )

    def prepare_config(self, model: dict) -> None:
        preprocessor = model.get('data_preprocessor') or {}
        augments = model.pop('train_cfg', None)
        augments = preprocessor.pop('batch_augments', augments)
        if augments:
            # They make labels one-hot, and the loss may be one for that.
            preprocessor['to_onehot'] = True
            model['data_preprocessor'] = preprocessor

    def check_model(self, model: nn.Module) -> None:
        from mmpretrain.models import ClsHead, DeiTClsHead, ImageClassifier

        if not isinstance(model, ImageClassifier):
            raise ConfigError(
                'model.type',
                type(model).__name__,
                'is not an image classifier; ClassificationTask reads '
                "mmpretrain's ImageClassifier",
            )
        head = model.head
        if isinstance(head, DeiTClsHead):
            valid = (
                'mmpretrain cannot train a DeiT with a distillation token, '
                'it averages two class layers only to predict; valid is a '
                'DeiT without one (VisionTransformer and '
                'VisionTransformerClsHead)'
            )
        elif not isinstance(head, ClsHead):
            valid = (
                'ClassificationTask needs a head that gives each image one '
                'class, not several labels, tasks or none, such as '
                'LinearClsHead'
            )
        elif class_layer(head) is None:
            valid = (
                'no linear class layer is found in it; valid are '
                'VisionTransformerClsHead, LinearClsHead, ArcFaceClsHead '
                'and heads derived from them'
            )
        else:
            return
        raise ConfigError('model.head.type', type(head).__name__, valid)

    def num_classes(self, model: nn.Module) -> int:
        return model.head.num_classes

    def class_layer(self, model: nn.Module) -> nn.Module:
        layer = class_layer(model.head)
        if layer is None or layer.weight.shape[0] != model.head.num_classes:
            raise ConfigError(
                'model.head.type',
                type(model.head).__name__,
                'it has no linear class layer with one row for each of the '
                f'{model.head.num_classes} classes (num_subcenters = 1, for '
                'an ArcFaceClsHead), of which prototypes of the classes '
                'could be taken',
            )
        return layer

    def logits_of(self, model: nn.Module, embeddings: Tensor) -> Tensor:
        # Of whatever kind: the head of faces normalises and scales.
        with temporarily(model.head, pre_logits=lambda embedded: embedded):
            return model.head(embeddings)

    def object_rows(self, model: nn.Module, batch: dict) -> ObjectRows:
        return classification_rows(model, batch)

    def frozen_modules(self, model: nn.Module) -> list[nn.Module]:
        blocks = frozen_blocks(model.backbone)
        if not blocks:
            return []
        names = ('patch_embed', 'drop_after_pos', 'pre_norm')
        return [*(getattr(model.backbone, name) for name in names), *blocks]

    def extract_frozen(
        self, model: nn.Module, inputs: Tensor, data_samples: Sequence
    ) -> Tensor:
        blocks = frozen_blocks(model.backbone)
        return tokens_after(model.backbone, inputs, blocks)

    def half(
        self,
        model: nn.Module,
        inputs: Tensor,
        trunk_output: Tensor,
        data_samples: Sequence,
        index: Tensor,
        role: str,
    ) -> ClassificationHalf:
        return ClassificationHalf(
            model,
            inputs[index],
            [data_samples[i] for i in index.tolist()],
            role,
            # Not the inputs themselves, where there are frozen blocks.
            trunk_output[index] if trunk_output is not inputs else None,
        )

    def evaluator(
        self,
        evaluator: dict | list[dict],
        splits: dict[str, list[str]],
        only_split_images: bool,
    ) -> dict | list[dict]:
        """See :meth:`BaseTask.evaluator`.

        An image shows one class, so the accuracy of a split is that of its
        own images whatever ``only_split_images`` says. Further metrics of a
        list are passed on; those of this package that take ``splits`` get
        them.
        """
        found, others = pick_metric(
            evaluator,
            ACCURACIES,
            'classification is scored by accuracy, so it must be '
            "dict(type='Accuracy', topk=(1, 5)), or a list with one of "
            'these and other metrics',
        )
        accuracy = {**found, 'type': 'gslora_mm.ForgettingAccuracy'}
        metrics = [
            {**metric, 'splits': splits} if _takes_splits(metric) else metric
            for metric in (accuracy, *others)
        ]
        return metrics if others else metrics[0]

    def picture_hook(
        self, show_dir: str | None, work_dir: str, **shown: Any
    ) -> dict:
        folder = show_dir and osp.join(work_dir, show_dir)
        kind = 'VisualizationHook'
        return dict(
            type=kind, enable=True, interval=1, out_dir=folder, **shown
        )


def _takes_splits(metric: dict) -> bool:
    """Whether a metric of this package has an argument ``splits``."""
    name = str(metric.get('type'))
    cls = METRICS.get(name) if name.startswith('gslora_mm.') else None
    return cls is not None and 'splits' in inspect.signature(cls).parameters
