from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from inspect import get_annotations
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import HalfBatch, TaskModel
from gslora_mm.utils import ConfigError
from .settings import check_setting, is_per_step

#: Parts of a loss that methods had of their own before, and that nothing
#: calls any more.
FORMER_PARTS = (
    'forget_part',
    'retain_part',
    'structure_part',
    'distance',
    'replay',
    'penalty',
    'importance',
)


@dataclass(eq=False, repr=False, kw_only=True)
class BaseMethod(nn.Module):
    """How a forget and a retain batch become a loss.

    A subclass writes its settings as annotated class attributes; each of
    them becomes a field of a dataclass, and a keyword argument::

        class Mine(BaseMethod):
            name = 'mine'
            beta: PerStep[NonNegative] = 1.0

    :mod:`~gslora_mm.methods.settings` has the types; values that break their
    rules are refused. The attributes below that a class sets are never
    settings. A subclass may write an ``__init__`` instead, and has to check
    its arguments there; its annotations, and those of classes below it, make
    no settings.

    The life of a method in one step of a sequence: :meth:`setup` once the
    model has its checkpoint and its adapter; from the second step on
    :meth:`load_carried_state` with what the step before carried on;
    :meth:`prepare` once the data is there, and in a method that carries a
    state :meth:`load_carried_state` with its own; then for every iteration
    :meth:`losses` and, before and after the optimizer moves the parameters,
    :meth:`before_update` and :meth:`after_update`. Buffers that a subclass
    registers (averages, counters, ...) are saved and resumed with the step.

    Attributes:
        name (str): As it stands in ``report.json``.
        level (str): How deep it is meant to go: ``'behaviour'``,
            ``'features'`` or ``'weights'``; whether it does, an audit says.
        needs (tuple[str, ...]): The halves of a batch that the method cannot
            do without. If it is one, the other is not read from disk, unless
            ``schedule.forget_ratio`` says so; if it is none, the method
            takes what there is.
        in_evaluation_mode (bool): Whether the stock model computes as at
            test time while it is trained, without dropout; that of the
            adapter stays.
        can_learn (bool): Whether classes that ``forgetting.learn`` names are
            learned. Not by a method that holds the model to one which has
            not learned them, nor by one that looks at no retain image. What a
            setting decides, an object says for itself.
        learns_with (str): The setting that it does with then, for whoever
            asks it to; empty if there is none.
        ends_at_zero (bool): Whether a ``loss_forget`` of zero means that all
            is forgotten.
        forget_weight (str, optional): The setting that weighs what is to be
            forgotten against what is to be kept, for a schedule that finds
            it.
        knows_other_objects (bool): Whether objects of classes outside of a
            half are given to it as regions to be ignored, where the config
            would drop them.
        carries_state (bool): Whether a step hands something to the next one,
            see :meth:`carried_state`.
        per_step (tuple[str, ...]): Settings that may be lists in a config,
            with one entry for each step of the sequence: those that a class
            lists here, and the fields of type ``PerStep[...]``.
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
    level: ClassVar[str] = 'behaviour'
    needs: ClassVar[tuple[str, ...]] = ('forget', 'retain')
    in_evaluation_mode: ClassVar[bool] = False
    can_learn: ClassVar[bool] = True
    learns_with: ClassVar[str] = ''
    ends_at_zero: ClassVar[bool] = True
    forget_weight: ClassVar[str | None] = None
    knows_other_objects: ClassVar[bool] = False
    carries_state: ClassVar[bool] = False
    per_step: ClassVar[tuple[str, ...]] = ()
    state_argument: ClassVar[str | None] = None
    _init_is_written: ClassVar[bool] = False
    _listed_per_step: ClassVar[tuple[str, ...]] = ()
    _own_types: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        # A written __init__ serves its class and all below it.
        cls._init_is_written |= '__init__' in own
        cls._own_types = {}
        if not cls._init_is_written:
            for name in BaseMethod.__annotations__:
                if name in own.get('__annotations__', {}):
                    cls.__annotations__[name] = ClassVar
            cls._own_types = get_annotations(cls, eval_str=True)
            for name in (own.keys() & cls._types().keys()) - {*cls._own_types}:
                raise TypeError(  # a dataclass would not look at its value
                    f'{cls.__name__}.{name} needs its type to be a setting: '
                    f'{name}: PerStep[NonNegative] = ...'
                )
            dataclass(eq=False, repr=False, kw_only=True)(cls)
        cls._listed_per_step = own.get('per_step', cls._listed_per_step)
        lists = [k for k, hint in cls._types().items() if is_per_step(hint)]
        cls.per_step = tuple(dict.fromkeys((*cls._listed_per_step, *lists)))
        former = [name for name in FORMER_PARTS if callable(own.get(name))]
        if former and 'losses' not in own:
            raise TypeError(
                f'{cls.__name__}.{former[0]} is not called any more; write '
                'losses, which yields all terms'
            )
        if 'carried_state' in own and not cls.carries_state:
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
        types: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            types.update(vars(base).get('_own_types', {}))
        return {each.name: types.get(each.name, Any) for each in fields(cls)}

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
            model (TaskModel): With checkpoint and adapter in place. In a
                sequence and its dry run it is the ``ForgettingModel`` that
                holds the method.
        """

    def prepare(self, model: TaskModel, dataset: ForgetRetainDataset) -> None:
        """Look at model and data before the first iteration of a step.

        A resumed step is prepared again, and holds the weights here that it
        began with. With ``carries_state = True`` it has its own state then
        in place of that of the step before, see :meth:`carried_state`.
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

    @classmethod
    def forgets_at_once(cls) -> bool:
        """Whether the first iterations push what is to be forgotten.

        A schedule that watches it go has nothing to see otherwise.
        """
        return cls.needs != ('retain',)

    def find_settings(
        self, model: TaskModel, dataset: ForgetRetainDataset
    ) -> dict[str, float]:
        """Find settings that depend on the scale of a model's losses.

        Asked by a schedule that leaves none to the user, after
        :meth:`prepare`; what it finds is written down with the step.

        Args:
            model (TaskModel): As the step found it, on its device.
            dataset (ForgetRetainDataset): The replay images of the step.

        Returns:
            dict[str, float]: For :meth:`take_settings`; {} by default.
        """
        return {}

    def take_settings(self, settings: dict[str, float]) -> None:
        """Replace settings of the config, at any time of a step.

        Args:
            settings (dict[str, float]): By name.
        """
        for name, value in settings.items():
            setattr(self, name, value)

    def carried_state(self) -> dict[str, Tensor]:
        """What the next step is to get, as known after :meth:`prepare`.

        It is written to the step's ``method.safetensors``. A method with
        ``carries_state = True`` is given the file of the step before in each
        step but the first, and its own one when a step is resumed.

        Returns:
            dict[str, Tensor]: By name; {} by default.
        """
        return {}

    def load_carried_state(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`carried_state` gave.

        Called up to twice in a step: before :meth:`prepare` with the state
        of the step before, from the second step on, or with that of
        ``state_argument``, or when it is resumed with its own; and after it,
        in every step, with its own file, so that all processes hold the same.

        Args:
            state (dict[str, Tensor]): On the CPU.

        Raises:
            ValueError: If this is not a state of the method. The caller
                names the file.
        """

    def load_given_state(self, state: dict[str, Tensor]) -> None:
        """Take over a file of another run, that of ``state_argument``.

        Args:
            state (dict[str, Tensor]): As for :meth:`load_carried_state`, all
                of which is taken over by default.
        """
        self.load_carried_state(state)

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
