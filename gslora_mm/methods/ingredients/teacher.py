import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.lora import lora_layers
from gslora_mm.tasks import HalfBatch, Seen, TaskModel
from .replay import without_adapter


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
        self._weights = weights or {}
        if not model.groups:
            self._copy = copy.deepcopy(model.model).eval()
            self._copy.requires_grad_(False)
            self._copy.load_state_dict(self._weights, strict=False)
            self._weights = {}
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
        changed = trained_weights(self._model) if self._weights else {}
        own = {name: weight.data for name, weight in changed.items()}
        try:
            for name, weight in changed.items():
                weight.data = self._weights[name].to(weight)
            yield
        finally:
            for name, weight in changed.items():
                weight.data = own[name]

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
        behind = logits.shape[1] - len(self.is_kept)
        is_kept = F.pad(self.is_kept, (0, behind), value=background)
        return logits[:, is_kept.to(logits.device)]

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


def trained_weights(model: TaskModel) -> dict[str, Tensor]:
    """What a step changes of the stock model, as it is.

    Args:
        model (TaskModel): At the start of a step.

    Returns:
        dict[str, Tensor]: By the name in a stock checkpoint, the weights of
        the adapted layers, without the update; or, without an adapter, all
        parameters that are trained.
    """
    layers = lora_layers(model.model) if model.groups else {}
    weights = {
        f'{k}.weight': layer.stock_weight for k, layer in layers.items()
    }
    for name, parameter in model.model.named_parameters():
        is_factor = name.rpartition('.')[2] in ('lora_A', 'lora_B')
        if parameter.requires_grad and not is_factor:
            weights[name] = parameter
    return weights
