from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gslora_mm.lora import disable_lora
from gslora_mm.methods.base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch
    from gslora_mm.tasks import Seen


class Teacher:
    """The model as it was when the step began, frozen.

    With an adapter it is the model itself, asked without the adapter: no
    second model is stored. Without one it is a copy, to be taken in
    :meth:`~gslora_mm.methods.BaseMethod.setup`, where the step's checkpoint
    is loaded and nothing is trained yet - of a resumed step, too.

    Not a module on purpose: it is no part of what a method saves.

    Args:
        model (ForgettingModel): With checkpoint and adapter in place.
    """

    def __init__(self, model: ForgettingModel) -> None:
        self._model = model
        self._copy = None
        if not model.groups:
            self._copy = copy.deepcopy(model.model).eval()
            self._copy.requires_grad_(False)

    def sees(self, half: HalfBatch) -> Seen:
        """What the teacher makes of a half, in evaluation mode.

        Args:
            half (HalfBatch): With N rows.

        Returns:
            Seen: Features (N, C) and logits (N, columns) of the same rows,
            without gradients.
        """
        # Which rows there are, the student's own pass says. It has to come
        # first: in here it would run without adapter and gradients, and the
        # half keeps what it gave.
        _ = half.labels
        with torch.no_grad():
            return self._seen(half)

    def _seen(self, half: HalfBatch) -> Seen:
        if self._copy is not None:
            device = next(self._model.parameters()).device
            return half.seen_by(self._copy.to(device))
        training = self._model.training
        self._model.eval()
        try:
            with disable_lora(self._model.model):
                return half.seen_by(self._model.model)
        finally:
            self._model.train(training)


class Taught(BaseMethod):
    """What methods share that have a teacher.

    To stand before any other base: ``class LwF(Taught, OtherBase)``.
    """

    can_learn = False  # the teacher has not

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._teacher: Teacher | None = None
        # Of which classes it may speak on retain images.
        self._is_kept = torch.ones(0, dtype=torch.bool)

    def setup(self, model: ForgettingModel) -> None:
        super().setup(model)
        self._teacher = Teacher(model)

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        super().prepare(model, dataset)
        num_classes = len(dataset.metainfo['classes'])
        self._is_kept = torch.ones(num_classes, dtype=torch.bool)
        self._is_kept[dataset.datasets[0].labels] = False

    def kept(self, logits: Tensor, background: bool = True) -> Tensor:
        """Logits of which a teacher may speak on retain images.

        All but those of the classes to be forgotten in this step, which the
        teacher still knows: what it says of them is no target for a student
        that must not. Classes forgotten before stay in. The teacher denies
        them already, and to agree with it keeps them forgotten.

        Args:
            logits (Tensor): As :attr:`HalfBatch.logits`, (N, columns).
            background (bool): Whether a column behind the classes stays.
                Defaults to True.

        Returns:
            Tensor: With fewer columns, (N, kept).
        """
        behind = logits.shape[1] - len(self._is_kept)
        is_kept = F.pad(self._is_kept, (0, behind), value=background)
        return logits[:, is_kept.to(logits.device)]
