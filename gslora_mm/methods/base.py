from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_type_hints

from torch import Tensor, nn
from torch.optim import Optimizer

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import HalfBatch, TaskModel
from gslora_mm.utils import ConfigError
from .settings import check_setting, is_per_step


@dataclass(eq=False, repr=False, kw_only=True)
class BaseMethod(nn.Module):
    """How a forget and a retain batch become a loss.

    A subclass writes its settings as annotated class attributes; each of
    them becomes a field of a dataclass, and a keyword argument::

        class Mine(BaseMethod):
            name = 'mine'
            beta: PerStep[NonNegative] = 1.0

    :mod:`~gslora_mm.methods.settings` has the types; values that break their
    rules are refused. A subclass may write an ``__init__`` instead, and has
    to check its arguments there.

    The life of a method in one step of a sequence: :meth:`setup` once the
    model has its checkpoint and its adapter, :meth:`load_carried_state` with
    what the step before carried on, :meth:`prepare` once the data is there;
    then for every iteration :meth:`losses` and, before and after the
    optimizer moves the parameters, :meth:`before_update` and
    :meth:`after_update`. Buffers that a subclass registers (averages,
    counters, ...) are saved and resumed with the step.

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
        carries_state (bool): Whether a step hands something to the next one,
            see :meth:`carried_state`.
        per_step (tuple[str, ...]): Settings that may be lists in a config,
            with one entry for each step of the sequence; follows from the
            fields.
        state_argument (str, optional): Setting that may name a file with a
            carried state for the first step to begin with.
        iteration (int): Iterations finished so far in this step, set by the
            hook that drives the method.
        iterations_per_epoch (int): Iterations of one pass over the retain
            images - the forget images for a method that needs no others -,
            set by the same hook.
        max_iters (int): Iterations of the step, set by the same hook; it
            may be stopped before.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ('forget', 'retain')
    can_learn: ClassVar[bool] = True
    ends_at_zero: ClassVar[bool] = True
    carries_state: ClassVar[bool] = False
    per_step: ClassVar[tuple[str, ...]] = ()
    state_argument: ClassVar[str | None] = None
    _init_is_written: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A written __init__ serves its class and all below it.
        cls._init_is_written |= '__init__' in vars(cls)
        init = not cls._init_is_written
        dataclass(eq=False, repr=False, kw_only=True, init=init)(cls)
        lists = [k for k, hint in cls._types().items() if is_per_step(hint)]
        cls.per_step = tuple(dict.fromkeys((*cls.per_step, *lists)))
        if 'carried_state' in vars(cls) and not cls.carries_state:
            raise TypeError(
                f'{cls.__name__} has a carried_state, which is only used '
                'with carries_state = True'
            )

    def __post_init__(self) -> None:
        # The fields are plain attributes, which a module may get before.
        super().__init__()
        self.iteration = 0
        self.iterations_per_epoch = 1
        self.max_iters = 1
        for name, hint in self._types().items():
            check_setting(f'method.{name}', getattr(self, name), hint)

    @classmethod
    def _types(cls) -> dict[str, Any]:
        """The types of the settings, by name."""
        hints = get_type_hints(cls, include_extras=True)
        return {field.name: hints[field.name] for field in fields(cls)}

    def require_adapter(self, model: TaskModel) -> None:
        """Raise a ConfigError if a model has no adapter."""
        if not model.groups:
            raise ConfigError(
                'adapter',
                None,
                f'{type(self).__name__} needs an adapter, for example '
                'adapter = dict(rank=8)',
            )

    def setup(self, model: TaskModel) -> None:
        """Look at the model before the first iteration of a step.

        The place to refuse a model, and to register buffers; also called
        where nothing is trained afterwards.

        Args:
            model (TaskModel): With checkpoint and adapter in place.
        """

    def prepare(self, model: TaskModel, dataset: ForgetRetainDataset) -> None:
        """Look at model and data before the first iteration of a step.

        A resumed step, too, holds the weights here that it began with.
        All processes call this at the same time, and all have to come to
        the same result. It may be repeated, when a step is killed early and
        resumed, and has to give the same then: whatever is random must come
        from a seed of its own, such as those of
        :meth:`ForgetRetainDataset.__getitem__`, and the mode of the model
        must be put back.

        Args:
            model (TaskModel): As in :meth:`setup`, on its device.
            dataset (ForgetRetainDataset): The replay images of the step.
        """

    def carried_state(self) -> dict[str, Tensor]:
        """What the next step is to get, as known after :meth:`prepare`.

        It is written to the step's ``method.safetensors``. A method with
        ``carries_state = True`` is given the file of the step before in each
        step but the first, and its own one instead of :meth:`prepare` when a
        step is resumed.

        Returns:
            dict[str, Tensor]: By name; {} by default.
        """
        return {}

    def load_carried_state(self, state: dict[str, Tensor]) -> None:
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

    def before_update(self) -> None:
        """Act on the gradients before an optimizer step.

        They are complete then, and the same on all processes; with mixed
        precision they are still scaled.
        """

    def after_update(self, optimizer: Optimizer) -> None:
        """Act on the parameters after an optimizer step.

        Args:
            optimizer (Optimizer): The optimizer that has just stepped.
        """
