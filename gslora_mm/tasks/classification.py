import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gslora_mm.registry import METRICS, TASKS
from gslora_mm.utils import ConfigError
from .base import BaseTask, HalfBatch, Seen
from .precision import in_full_precision, without_autocast

#: Where the heads of mmpretrain keep their last class layer:
#: ``LinearClsHead``, ``VisionTransformerClsHead``, ``ArcFaceClsHead``.
CLASS_LAYERS = ('fc', 'layers.head', 'norm_product')


class ClassificationHalf(HalfBatch):
    """One half of a classification batch.

    The head runs in full precision even where the backbone does not: it
    costs nothing, and its loss is compared with a bound. bfloat16 has steps
    of 0.5 where the logits of a face model lie, around 64.

    Args:
        model (nn.Module): An ``ImageClassifier`` of mmpretrain.
        inputs (Tensor): Preprocessed images of this half, (n, C, H, W).
        data_samples (list[DataSample]): Samples of this half.
        role (str): ``'forget'`` or ``'retain'``.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        data_samples: list,
        role: str,
    ) -> None:
        super().__init__(role, len(data_samples))
        self._model = model
        self._inputs = inputs
        self._data_samples = data_samples

    @cached_property
    def _embedded(self) -> Any:
        """What the backbone and the neck give to the head."""
        with without_waste(self._model.backbone):
            embedded = self._model.extract_feat(self._inputs)
        return in_full_precision(embedded)

    @cached_property
    def losses(self) -> dict[str, Tensor]:
        """Loss terms by mmpretrain's names; accuracies are left out."""
        embedded = self._embedded
        with without_autocast(self._inputs):
            found = self._model.head.loss(embedded, self._data_samples)
        return {key: loss for key, loss in found.items() if 'loss' in key}

    @property
    def loss_cls(self) -> Tensor:
        return self.losses['loss']

    @property
    def loss_rest(self) -> Tensor:
        return sum(v for name, v in self.losses.items() if name != 'loss')

    @cached_property
    def features(self) -> Tensor:
        embedded = self._embedded
        with without_autocast(self._inputs):
            return self._model.head.pre_logits(embedded)

    @cached_property
    def labels(self) -> Tensor:
        return torch.cat([sample.gt_label for sample in self._data_samples])

    @cached_property
    def logits(self) -> Tensor:
        embedded = self._embedded
        with without_autocast(self._inputs):
            return self._model.head(embedded)

    def seen_by(self, model: nn.Module) -> Seen:
        # The same images anew: another half of the same kind.
        other = ClassificationHalf(
            model, self._inputs, self._data_samples, self.role
        )
        return Seen(other.features, other.logits)

    def relabelled(
        self, draw: Callable[[Tensor], Tensor]
    ) -> 'ClassificationHalf':
        samples = []
        labels = draw(self.labels)
        for sample, label in zip(self._data_samples, labels, strict=True):
            sample = sample.clone().set_gt_label(label)
            if 'gt_score' in sample:  # one-hot, and what the head reads
                score = F.one_hot(label, sample.num_classes)
                sample.set_gt_score(score.to(sample.gt_score))
            samples.append(sample)
        return ClassificationHalf(
            self._model, self._inputs, samples, self.role
        )


@contextlib.contextmanager
def without_waste(backbone: nn.Module) -> Iterator[None]:
    """Let the last block of a ViT compute only what is used.

    Where nothing but the class token goes to the head, what the last block
    makes of the other tokens is thrown away: with six blocks, a seventh of
    the work. The class token comes out the same.

    Args:
        backbone (nn.Module): Any backbone; others than mmpretrain's
            ``VisionTransformer`` are left alone.
    """
    from mmpretrain.models.backbones import vision_transformer as vit

    last = getattr(backbone, 'layers', [None])[-1]
    if (
        type(backbone) is not vit.VisionTransformer
        or type(last) is not vit.TransformerEncoderLayer
        or backbone.out_type != 'cls_token'
        or list(backbone.out_indices) != [len(backbone.layers) - 1]
    ):
        yield
        return

    attend = last.attn.scaled_dot_product_attention

    def attend_by_class_token(query: Tensor, *args, **kwargs) -> Tensor:
        out = attend(query[:, :, :1], *args, **kwargs)
        return out.expand(-1, -1, query.shape[2], -1)

    def keep_class_token(_: nn.Module, args: tuple, kwargs: dict) -> tuple:
        return (
            tuple(tokens[:, :1] for tokens in args),
            {name: tokens[:, :1] for name, tokens in kwargs.items()},
        )

    last.attn.scaled_dot_product_attention = attend_by_class_token
    hook = last.ffn.register_forward_pre_hook(
        keep_class_token, with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()
        last.attn.scaled_dot_product_attention = attend


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
    each. Batch augmentations (Mixup, CutMix), which would blend images to
    forget with images to retain, are left out.
    """

    name = 'classification'
    metric = 'top1'
    score_name = 'Acc'
    unit = 'image'
    picture_note = (
        'The three likeliest classes, the true one in colour; a hatched bar '
        'should be gone.'
    )
    trunk = ()
    prototype_source = 'features'

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
                f'model.type = {type(model).__name__!r} is not an image '
                "classifier; ClassificationTask reads mmpretrain's "
                'ImageClassifier'
            )
        head = model.head
        found = f'model.head.type = {type(head).__name__!r}'
        if isinstance(head, DeiTClsHead):
            raise ConfigError(
                f'{found}: mmpretrain cannot train a DeiT with a '
                'distillation token, it averages two class layers only to '
                'predict; valid is a DeiT without one (VisionTransformer '
                'and VisionTransformerClsHead)'
            )
        if not isinstance(head, ClsHead):
            raise ConfigError(
                f'{found}: ClassificationTask needs a head that gives each '
                'image one class, not several labels, tasks or none, such '
                'as LinearClsHead'
            )
        if class_layer(head) is None:
            raise ConfigError(
                f'{found}: no linear class layer is found in it; valid are '
                'VisionTransformerClsHead, LinearClsHead, ArcFaceClsHead '
                'and heads derived from them'
            )

    def num_classes(self, model: nn.Module) -> int:
        return model.head.num_classes

    def class_weights(self, model: nn.Module) -> Tensor:
        layer = class_layer(model.head)
        if layer is None or layer.weight.shape[0] != model.head.num_classes:
            raise ConfigError(
                f'model.head.type = {type(model.head).__name__!r}: it has no '
                'linear class layer with one row for each of the '
                f'{model.head.num_classes} classes (num_subcenters = 1, for '
                'an ArcFaceClsHead), of which prototypes of the classes '
                'could be taken'
            )
        return layer.weight.detach().clone()

    def extract(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return inputs

    def half(
        self,
        model: nn.Module,
        inputs: Tensor,
        features: Tensor,
        data_samples: Sequence,
        index: Tensor,
        role: str,
    ) -> ClassificationHalf:
        return ClassificationHalf(
            model,
            inputs[index],
            [data_samples[i] for i in index.tolist()],
            role,
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
        known = ('Accuracy', 'ForgettingAccuracy')
        metrics = [evaluator] if isinstance(evaluator, dict) else evaluator
        accuracies = [
            metric
            for metric in metrics or []
            if isinstance(metric, dict)
            and str(metric.get('type')).split('.')[-1] in known
        ]
        if len(accuracies) != 1:
            raise ConfigError(
                f'val_evaluator = {evaluator!r}: classification is scored '
                "by accuracy, so it must be dict(type='Accuracy', topk=(1, "
                '5)), or a list with one of these and other metrics'
            )
        (accuracy,) = accuracies
        accuracy = {
            **accuracy,
            'type': 'gslora_mm.ForgettingAccuracy',
            'splits': splits,
        }
        others = [
            {**metric, 'splits': splits} if _takes_splits(metric) else metric
            for metric in metrics
            if metric is not accuracies[0]
        ]
        return [accuracy, *others] if others else accuracy


def _takes_splits(metric: dict) -> bool:
    """Whether a metric of this package has an argument ``splits``."""
    name = str(metric.get('type'))
    cls = METRICS.get(name) if name.startswith('gslora_mm.') else None
    return cls is not None and 'splits' in inspect.signature(cls).parameters
