"""Do not compute what is frozen: what replay images give before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gslora_mm.datasets.remembered import KEY
from gslora_mm.utils.tensor_store import TensorStore

if TYPE_CHECKING:
    from gslora_mm.tasks import TaskModel


class TrunkCache:
    """What the frozen part of a model gives for an image, computed once.

    A batch of which an image is missing is computed as a whole, as it would
    be without a cache: kernels round otherwise for another number of images,
    but the same for an image whatever stands beside it. So what is kept
    follows from the image and the size that it is padded to, and neither
    leaving the cache out nor resuming a run changes a number.

    Args:
        model (TaskModel): With frozen modules at its beginning.
        store (TensorStore): Where the outputs are kept; what it has no room
            for is computed anew each time.
    """

    def __init__(self, model: TaskModel, store: TensorStore) -> None:
        self._model = model
        self._store = store
        self._is_tensor = False

    def extract(self, inputs: Tensor, data_samples: Sequence) -> Any:
        """What :meth:`BaseTask.extract_frozen` gives for a batch.

        Args:
            inputs (Tensor): Preprocessed images, shape (N, C, H, W).
            data_samples (Sequence): N data samples.
        """
        keys = [
            (sample.metainfo[KEY], inputs.shape[1:], inputs.dtype)
            for sample in data_samples
        ]
        rows = [self._store.get(key) for key in keys]
        if any(row is None for row in rows):
            outputs = self.compute(inputs, data_samples)
            for i, (key, row) in enumerate(zip(keys, rows, strict=True)):
                # An image may be there twice.
                if row is None and key not in self._store:
                    self._store.put(key, [each[i] for each in outputs])
        else:
            outputs = [
                _batch_of(parts, inputs.device)
                for parts in zip(*rows, strict=True)
            ]
        return outputs[0] if self._is_tensor else tuple(outputs)

    @torch.no_grad()
    def compute(
        self, inputs: Tensor, data_samples: Sequence
    ) -> Sequence[Tensor]:
        """The same, always computed and always a sequence.

        Raises:
            ValueError: If the output has no part of its own for an image.
        """
        task, model = self._model.task, self._model.model
        found = task.extract_frozen(model, inputs, data_samples)
        self._is_tensor = torch.is_tensor(found)
        outputs = [found] if self._is_tensor else found
        if not all(len(output) == len(inputs) for output in outputs):
            raise ValueError(
                f'extract_frozen of {type(task).__name__} has to give '
                'tensors with the images along their first dimension'
            )
        return outputs


def _batch_of(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """A batch of rows that are kept on the CPU."""
    batch = rows[0].new_empty((len(rows), *rows[0].shape), device=device)
    for i, row in enumerate(rows):
        batch[i].copy_(row, non_blocking=True)
    return batch
