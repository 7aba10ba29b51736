from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


class BaseMethod(nn.Module):
    """How a forget and a retain batch become a loss.

    The life of a method in one step of a sequence: :meth:`setup` once the
    model has its checkpoint and its adapter, :meth:`load_carried_state` with
    what the step before carried on, :meth:`prepare` once the data is there;
    then for every iteration :meth:`losses` and, before and after the
    optimizer moves the parameters, :meth:`before_update` and
    :meth:`after_update`. Buffers that a subclass
    registers (importances, counters, ...) are saved and resumed with the
    step.

    Attributes:
        name (str): As it stands in ``report.json``.
        needs (tuple[str, ...]): The halves of a batch that the method looks
            at. What is not needed is not read from disk, unless
            ``schedule.forget_ratio`` says so.
        can_learn (bool): Whether classes that ``forgetting.learn`` names are
            learned. Not by a method that holds the model to one which has
            not learned them, nor by one that looks at no retain image.
        ends_at_zero (bool): Whether a ``loss_forget`` of zero means that all
            is forgotten.
        per_step (tuple[str, ...]): Arguments that may be lists in a config,
            with one entry for each step of the sequence.
        state_argument (str, optional): Argument that may name a file with a
            carried state for the first step to begin with.
        iteration (int): Iterations finished so far in this step, set by the
            hook that drives the method.
        iterations_per_epoch (int): Iterations of one pass over the retain
            images - the forget images for a method that needs no others -,
            set by the same hook.
        max_iters (int): Iterations of the step, set by the same hook; it
            may be stopped before.
    """

    name: str
    needs: tuple[str, ...] = ('forget', 'retain')
    can_learn: bool = True
    ends_at_zero: bool = True
    per_step: tuple[str, ...] = ()
    state_argument: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.iteration = 0
        self.iterations_per_epoch = 1
        self.max_iters = 1

    def setup(self, model: ForgettingModel) -> None:  # noqa: B027
        """Look at the model before the first iteration of a step.

        Args:
            model (ForgettingModel): With checkpoint and adapter in place.
        """

    def prepare(  # noqa: B027
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        """Look at the data before the first iteration of a step.

        All processes call this at the same time, and all have to come to
        the same result. It may be repeated, when a step is killed early and
        resumed, and has to give the same then: whatever is random must come
        from a seed of its own, such as those of
        :meth:`ForgetRetainDataset.__getitem__`, and the mode of the model
        must be put back.

        Args:
            model (ForgettingModel): As in :meth:`setup`, on its device.
            dataset (ForgetRetainDataset): The replay images of the step.
        """

    def carried_state(self) -> dict[str, Tensor]:
        """What the next step is to get, as known after :meth:`prepare`.

        It is written to the step's ``method.safetensors``. A method that
        overrides this is given the file of the step before in each step but
        the first, and its own one instead of :meth:`prepare` when a step is
        resumed.

        Returns:
            dict[str, Tensor]: By name; {} by default.
        """
        return {}

    def load_carried_state(  # noqa: B027
        self, state: dict[str, Tensor]
    ) -> None:
        """Take over what :meth:`carried_state` gave.

        Args:
            state (dict[str, Tensor]): On the CPU.

        Raises:
            ValueError: If this is not a state of the method. The caller
                names the file.
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

    def before_update(self) -> None:  # noqa: B027
        """Act on the gradients before an optimizer step.

        They are complete then, and the same on all processes; with mixed
        precision they are still scaled.
        """

    def after_update(self, optimizer: Optimizer) -> None:  # noqa: B027
        """Act on the parameters after an optimizer step.

        Args:
            optimizer (Optimizer): The optimizer that has just stepped.
        """
