from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from gslora_mm.models import ForgettingModel, HalfBatch


class BaseMethod(nn.Module):
    """How a forget and a retain batch become a loss.

    The life of a method in one step of a sequence: :meth:`setup` once the
    model has its checkpoint and its adapter, then for every iteration
    :meth:`losses` and, after the optimizer has moved the parameters,
    :meth:`after_update`. Buffers that a subclass registers (importances,
    prototypes, ...) are saved and resumed with the step.

    Attributes:
        name (str): As it stands in ``report.json``.
        per_step (tuple[str, ...]): Arguments that may be lists in a config,
            with one entry for each step of the sequence.
        iteration (int): Iterations finished so far in this step, set by the
            hook that drives the method.
    """

    name: str
    per_step: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.iteration = 0

    def setup(self, model: ForgettingModel) -> None:  # noqa: B027
        """Look at the model before the first iteration of a step.

        Args:
            model (ForgettingModel): With checkpoint and adapter in place.
        """

    @abstractmethod
    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        """The loss of one iteration, part by part.

        Each part is back-propagated as soon as it is yielded, and what was
        stored for it is freed: a method that yields its terms of the forget
        half before it first looks at the retain half needs the memory of
        one half only. Terms that need both halves go into one part. What a
        later part reads of an earlier one has to be detached.

        Args:
            forget (HalfBatch): Images of the classes to forget.
            retain (HalfBatch): Images of the classes to keep.

        Yields:
            dict[str, Tensor]: Scalars. The sum of those with ``loss`` in
            their name is trained on; the others are logged.
        """

    def after_update(self, optimizer: Optimizer) -> None:  # noqa: B027
        """Act on the parameters after an optimizer step.

        Args:
            optimizer (Optimizer): The optimizer that has just stepped.
        """
