import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import HalfBatch, Seen, TaskModel
from gslora_mm.tasks.half_batch import View, kept_columns
from .replay import without_adapter
from .weight_drift import trained_weights


class Teacher:
    """The model as it was when the step began, or before; frozen.

    With an adapter it is the model itself, asked without the adapter: no
    second model is stored. Without one it is a copy. To be made in
    :meth:`~gslora_mm.methods.BaseMethod.prepare`, where also a resumed step
    holds the weights that it began with.

    Not a module on purpose: it is no part of what a method saves.

    Args:
        model (TaskModel): At the start of a step, on its device.
        dataset (ForgetRetainDataset): The replay images of the step.
        weights (dict[str, Tensor], optional): Those of an earlier model in
            place of what :func:`trained_weights` gives. Defaults to None.

    Attributes:
        is_kept (Tensor): Whether a class is not forgotten in this step,
            (num_classes, ).
    """

    def __init__(
        self,
        model: TaskModel,
        dataset: ForgetRetainDataset,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self._model = model
        self._copy = None
        # Weights, and what they were, on their device.
        self._earlier: list[tuple[Tensor, Tensor]] = []
        if not model.groups:
            self._copy = copy.deepcopy(model.model).eval()
            self._copy.requires_grad_(False)
            self._copy.load_state_dict(weights or {}, strict=False)
        elif weights:
            self._earlier = [
                (weight, weights[name].to(weight))
                for name, weight in trained_weights(model).items()
            ]
        num_classes = len(dataset.metainfo['classes'])
        self.is_kept = torch.ones(num_classes, dtype=torch.bool)
        self.is_kept[dataset.datasets[0].labels] = False

    def sees(self, half: HalfBatch) -> Seen:
        """What the teacher makes of a half, in evaluation mode.

        Args:
            half (HalfBatch): With N rows.

        Returns:
            Seen: Features (N, C) and logits (N, columns) of the same rows,
            without gradients.
        """
        with self._asked(half) as teacher:
            return half.seen_by(teacher)

    def outputs(self, half: HalfBatch) -> Any:
        """All that the teacher says of a half.

        Args:
            half (HalfBatch): Either half.

        Returns:
            Any: For :meth:`~gslora_mm.tasks.HalfBatch.distance_to`.
        """
        with self._asked(half) as teacher:
            return half.outputs_of(teacher)

    def views(self, half: HalfBatch, image: Any = None) -> View:
        """All that the teacher makes of a half, layer by layer.

        Args:
            half (HalfBatch): Either half.
            image (Any, optional): What
                :meth:`~gslora_mm.tasks.HalfBatch.without_objects` gave, to
                be viewed in its place.
        """
        with self._asked(half) as teacher:
            return (half if image is None else image).view_of(teacher)

    @contextmanager
    def _asked(self, half: HalfBatch) -> Iterator[nn.Module]:
        """A context with the teacher, about to look at a half."""
        # Which rows there are, the student's own pass says. It has to come
        # first: in here it would run without adapter and gradients, and the
        # half keeps what it gave.
        _ = half.labels
        with torch.no_grad():
            if self._copy is not None:
                yield self._copy
                return
            with without_adapter(self._model), self.earlier_weights():
                yield self._model.model

    @contextmanager
    def earlier_weights(self) -> Iterator[None]:
        """A context in which an adapted model has the teacher's weights."""
        own = [weight.data for weight, _ in self._earlier]
        try:
            for weight, earlier in self._earlier:
                weight.data = earlier
            yield
        finally:
            for (weight, _), data in zip(self._earlier, own, strict=True):
                weight.data = data

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
        return logits[:, kept_columns(self.is_kept, logits, background)]

    def kept_logits(self, retain: HalfBatch) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's logits of the retain half.

        Rows are the images of a classifier, or the queries of a detector's
        last decoder layer that are matched to an object; columns the classes
        that are not forgotten in this step, see :meth:`kept`, and the
        background of a detector with a softmax.

        Args:
            retain (HalfBatch): With N rows.

        Returns:
            tuple[Tensor, Tensor]: Float32 of shape (N, kept); the teacher's
            have no gradient.
        """
        teacher = self.kept(self.sees(retain).logits)
        return self.kept(retain.logits).float(), teacher.float()
