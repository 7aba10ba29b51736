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

    Each image is computed alone, at the size that its batch is padded to:
    what is kept follows from the two, not from the images beside it or from
    when it was first seen, so that a resumed run has the same numbers.

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
        rows = []
        for i, sample in enumerate(data_samples):
            key = sample.metainfo.get(KEY)
            key = key and (key, tuple(inputs.shape[1:]), inputs.dtype)
            row = self._store.get(key)
            if row is None:
                row = self.compute(inputs[i : i + 1], data_samples[i : i + 1])
                if key:
                    self._store.put(key, row)
            rows.append(row)
        outputs = tuple(
            _joined(parts, inputs.device) for parts in zip(*rows, strict=True)
        )
        return outputs[0] if self._is_tensor else outputs

    @torch.no_grad()
    def compute(self, inputs: Tensor, data_samples: Sequence) -> list[Tensor]:
        """The same for one image, computed.

        Raises:
            ValueError: If the output has no part of its own for an image.
        """
        task, model = self._model.task, self._model.model
        output = task.extract_frozen(model, inputs, data_samples)
        self._is_tensor = torch.is_tensor(output)
        row = [output] if self._is_tensor else list(output)
        if not all(torch.is_tensor(each) and len(each) == 1 for each in row):
            raise ValueError(
                f'extract_frozen of {type(task).__name__} has to give '
                'tensors with the images along their first dimension'
            )
        return row


def _joined(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """Rows of one image each, in a batch."""
    first = parts[0]
    batch = first.new_empty((len(parts), *first.shape[1:]), device=device)
    for i, part in enumerate(parts):
        batch[i : i + 1].copy_(part, non_blocking=True)
    return batch
