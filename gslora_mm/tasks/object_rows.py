"""What a model makes of every object, at several depths."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ObjectRows:
    """What a model makes of the objects of some images, a row each.

    Which rows there are follows from the images alone, whatever the model:
    the images of a classifier, or the annotated objects of a detection data
    set, in order. Nothing is chosen with an object's class in hand.

    Attributes:
        labels (Tensor): True class ids, shape (N, ).
        features (dict[str, Tensor]): By depth, from the image to the class
            layer; shape (N, C) with a C of its own for each. The last one is
            what the class layer reads.
        logits (Tensor): Scores of the classes, (N, num_classes); a column
            for the background is left out.
        probabilities (Tensor): The same as probabilities.
        found (Tensor): The highest score of any class that a box over the
            object has (IoU of 0.5 or more), 0 if there is none, shape
            (N, ); of a classifier the highest probability.
        named (Tensor): Whether the model gives the object its own name:
            calls the image so, or has a box over the object (IoU of 0.5 or
            more) that names it among the detections of the image, however
            low its score; booleans of shape (N, ).
    """

    labels: Tensor
    features: dict[str, Tensor]
    logits: Tensor
    probabilities: Tensor
    found: Tensor
    named: Tensor

    @property
    def embedding(self) -> Tensor:
        """What the class layer reads, shape (N, C)."""
        return self.features[list(self.features)[-1]]

    def take(self, index: Tensor) -> 'ObjectRows':
        """Some of the rows.

        Args:
            index (Tensor): Positions, or whether a row is meant.
        """
        return ObjectRows(
            self.labels[index],
            {depth: rows[index] for depth, rows in self.features.items()},
            self.logits[index],
            self.probabilities[index],
            self.found[index],
            self.named[index],
        )

    def cpu(self) -> 'ObjectRows':
        """The same in float32 on the CPU."""
        return ObjectRows(
            self.labels.cpu(),
            {k: rows.float().cpu() for k, rows in self.features.items()},
            self.logits.float().cpu(),
            self.probabilities.float().cpu(),
            self.found.float().cpu(),
            self.named.cpu(),
        )

    @classmethod
    def concatenate(cls, parts: Iterable['ObjectRows']) -> 'ObjectRows':
        """All rows of several sets, in order; there has to be one set."""
        parts = list(parts)
        depths = parts[0].features
        return cls(
            torch.cat([part.labels for part in parts]),
            {
                k: torch.cat([part.features[k] for part in parts])
                for k in depths
            },
            torch.cat([part.logits for part in parts]),
            torch.cat([part.probabilities for part in parts]),
            torch.cat([part.found for part in parts]),
            torch.cat([part.named for part in parts]),
        )


@contextmanager
def recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """A context that writes down what modules give.

    Args:
        modules (dict[str, nn.Module]): By name; each runs once.

    Yields:
        dict[str, Tensor]: The first output of each that has run, by name.
    """
    outputs: dict[str, Tensor] = {}

    def hook(name: str):
        def record(module: nn.Module, inputs: tuple, output) -> None:
            is_tensor = torch.is_tensor(output)
            outputs[name] = output if is_tensor else output[0]

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in modules.items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
