from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gslora_mm.utils.precision import in_full_precision, without_autocast
from ..half_batch import HalfBatch, Seen, View
from ..object_rows import recorded
from .class_token import class_token_only
from .first_blocks import frozen_blocks, going_on_from, tokens_after
from .rows import block_depths


@dataclass(eq=False, repr=False)
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
        tokens (Tensor, optional): What the first, frozen blocks give for
            them, (n, tokens, C), if that is known. Defaults to None.
    """

    model: nn.Module
    inputs: Tensor
    data_samples: list
    role: str
    tokens: Tensor | None = None
    _blocks: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__init__(self.role, len(self.data_samples))

    @cached_property
    def _embedded(self) -> Any:
        """What the backbone and the neck give to the head."""
        depths, backbone = block_depths(self.model), self.model.backbone
        with (
            class_token_only(backbone),
            going_on_from(self.tokens, frozen_blocks(backbone)),
            recorded(depths) as found,
        ):
            embedded = self.model.extract_feat(self.inputs)
        self._blocks = found
        return in_full_precision(embedded)

    @cached_property
    def losses(self) -> dict[str, Tensor]:
        """Loss terms by mmpretrain's names; accuracies are left out."""
        embedded = self._embedded
        with without_autocast(self.inputs):
            found = self.model.head.loss(embedded, self.data_samples)
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
        with without_autocast(self.inputs):
            return self.model.head.pre_logits(embedded)

    @cached_property
    def labels(self) -> Tensor:
        return torch.cat([sample.gt_label for sample in self.data_samples])

    @cached_property
    def logits(self) -> Tensor:
        embedded = self._embedded
        with without_autocast(self.inputs):
            return self.model.head(embedded)

    def seen_by(self, model: nn.Module) -> Seen:
        # The same images anew: another half of the same kind.
        tokens = self.tokens if model is self.model else None
        other = replace(self, model=model, tokens=tokens)
        return Seen(other.features, other.logits)

    @property
    def layers(self) -> dict[str, Tensor]:
        features = self.features  # runs all of them
        found = self._blocks
        if self.tokens is not None:
            # What the first blocks give is not kept.
            blocks = frozen_blocks(self.model.backbone)
            with torch.no_grad(), recorded(
                dict(list(block_depths(self.model).items())[: len(blocks)])
            ) as first:
                tokens_after(self.model.backbone, self.inputs, blocks)
            found = {**found, **first}
        return {**found, 'embedding': features}

    def view_of(self, model: nn.Module) -> View:
        other = replace(self, model=model, tokens=None)
        return View(other.logits, other.layers)

    def relabelled(
        self, draw: Callable[[Tensor], Tensor]
    ) -> 'ClassificationHalf':
        samples = []
        labels = draw(self.labels)
        for sample, label in zip(self.data_samples, labels, strict=True):
            sample = sample.clone().set_gt_label(label)
            if 'gt_score' in sample:  # one-hot, and what the head reads
                score = F.one_hot(label, sample.num_classes)
                sample.set_gt_score(score.to(sample.gt_score))
            samples.append(sample)
        return replace(self, data_samples=samples)
