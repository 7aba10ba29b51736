from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gslora_mm.datasets import ClassOrder
from gslora_mm.entries import ForgettingEntry
from gslora_mm.utils import ConfigError, config_path, unknown_name


@dataclass(frozen=True)
class ForgettingPlan:
    """Which classes are forgotten at which step.

    Attributes:
        classes (tuple[str, ...]): All classes of the model, in label order.
        steps (tuple[tuple[str, ...], ...]): Classes to forget at each step.
        missing (tuple[str, ...]): Classes without any replay data while
            they are retained.
        learn (tuple[tuple[str, ...], ...]): Classes that the pre-trained
            model does not know, to be learned at each step; () if there are
            none.
    """

    classes: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...] = ()
    learn: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def splits(self, step: int) -> dict[str, list[str]]:
        """Class names of each split after a step.

        Args:
            step (int): Number of the step, from 1.

        Returns:
            dict[str, list[str]]: ``forget`` (this step), ``retain`` (what
            the pre-trained model knows and stays), ``old`` (forgotten
            before), ``missing`` (the part of retain without replay data),
            each in label order. If classes are learned at any step, also
            ``learned``: those of this and earlier steps that stay. Classes
            that are learned later are in no split.
        """
        forget = set(self.steps[step - 1])
        old = _union(self.steps[: step - 1])
        retain = set(self.classes) - forget - old - _union(self.learn)
        chosen = {
            'forget': forget,
            'retain': retain,
            'old': old,
            'missing': retain & set(self.missing),
        }
        if self.learn:
            chosen['learned'] = _union(self.learn[:step]) - forget - old
        return {
            split: [name for name in self.classes if name in names]
            for split, names in chosen.items()
        }

    def unknown(self, step: int) -> list[str]:
        """Classes that are learned after a step, in label order.

        Args:
            step (int): Number of the step, from 1.
        """
        later = _union(self.learn[step:])
        return [name for name in self.classes if name in later]

    def all_splits(self) -> dict[str, list[str]]:
        """Class names of the splits of all steps, empty ones left out.

        Returns:
            dict[str, list[str]]: ``step_01.forget``, ``step_01.retain``, ...
        """
        return {
            f'step_{step:02d}.{name}': classes
            for step in range(1, len(self) + 1)
            for name, classes in self.splits(step).items()
            if classes
        }

    @classmethod
    def make(
        cls,
        entry: ForgettingEntry,
        classes: Sequence[str],
        shown: Collection[str] | None = None,
        is_replayed: bool = True,
    ) -> 'ForgettingPlan':
        """Read and check ``forgetting.steps``, ``missing`` and ``learn``.

        With ``missing='rest'``, all classes that are not ``shown`` are
        missing (none if nothing is replayed), and a ``ClassOrder`` draws
        from the shown ones alone. It never draws a class that is to be
        learned.

        Args:
            entry (ForgettingEntry): What the config says.
            classes (Sequence[str]): All classes of the dataset.
            shown (Collection[str], optional): Those of which the training
                set has an image. Defaults to None: all.
            is_replayed (bool): Whether the method looks at images of what is
                retained. If not, none has to be shown. Defaults to True.

        Raises:
            ConfigError: If a class is unknown or forgotten twice, a step is
                empty, nothing would be retained, no retained class would
                have replay data, or a class to be learned is forgotten
                before, missing or not shown.
        """
        classes = tuple(classes)
        shown = set(classes if shown is None else shown)
        with config_path('forgetting'):
            learn = _read_learn(entry.learn, classes)
            learned = _union(learn)
            candidates = [name for name in classes if name not in learned]
            missing = entry.missing or ()
            if missing == 'rest':
                candidates = [name for name in candidates if name in shown]
                # Without replay there is nothing that these lack.
                missing = [
                    name
                    for name in classes
                    if is_replayed and name not in shown
                ]
            steps = _read_steps(entry.steps, candidates)
            step_of = _steps_of_classes(steps, classes)
            known = set(classes) - learned
            if known <= set(step_of):
                raise ConfigError(
                    'steps',
                    valid=f'it forgets all {len(known)} classes; at least one '
                    'has to be retained',
                )
            _check_missing(missing, classes)
            missing = tuple(missing)
            no_replay = set(missing)
            if learn and len(learn) != len(steps):
                raise ConfigError(
                    'learn',
                    valid=f'it has {len(learn)} entries for {len(steps)} '
                    'steps; it needs one for each, [] where nothing is '
                    'learned',
                )
            for number, names in enumerate(learn, 1):
                _check_learnable(names, number, step_of, no_replay, shown)
            accounted = shown.union(step_of, missing)
            absent = [name for name in classes if name not in accounted]
            if absent and is_replayed:
                raise ConfigError(
                    'missing',
                    valid='the training set shows nothing of '
                    f'{len(absent)} classes that are neither forgotten nor '
                    f'named there, such as {absent[0]!r}; name them, or write '
                    "missing='rest' for all classes without a training image",
                )
            if not known - set(step_of) - no_replay:
                hint = '; the method needs none, so leave it out'
                raise ConfigError(
                    'missing',
                    valid='it leaves no retained class with replay data'
                    + hint * (not is_replayed),
                )
        return cls(classes, steps, missing, learn if learned else ())


def _union(steps: Iterable[Iterable[str]]) -> set[str]:
    """Class names of some steps."""
    return {name for names in steps for name in names}


def _read_steps(
    steps: object, candidates: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Class names of each step, drawn from candidates if need be."""
    if isinstance(steps, dict):
        order = {key: value for key, value in steps.items() if key != 'type'}
        try:
            with config_path('steps'):
                steps = ClassOrder(**order).steps(candidates)
        except TypeError as error:
            raise ConfigError(
                'steps',
                steps,
                f'{error}; arguments are scheme, seed, num_steps and '
                'classes_per_step',
            ) from None
    if not isinstance(steps, list | tuple) or not steps:
        raise ConfigError(
            'steps',
            steps,
            'must be a list with a list of class names for each step, such '
            "as [['cat'], ['dog']], or dict(type='gslora_mm.ClassOrder', ...)",
        )
    for index, names in enumerate(steps):
        if not isinstance(names, list | tuple) or not names:
            raise ConfigError(
                f'steps[{index}]',
                names,
                f'step {index + 1} forgets nothing; it must be a list of at '
                'least one class name',
            )
    return tuple(map(tuple, steps))


def _steps_of_classes(
    steps: Sequence[Sequence[str]], classes: Sequence[str]
) -> dict[str, int]:
    """The step that forgets a class, by name; each is known and there once."""
    step_of: dict[str, int] = {}
    known = set(classes)
    for number, names in enumerate(steps, 1):
        path = f'steps[{number - 1}]'
        for name in names:
            if name not in known:
                raise unknown_name(path, name, classes)
            if name in step_of:
                where = (
                    f'steps {step_of[name]} and {number}'
                    if step_of[name] != number
                    else f'step {number}, twice'
                )
                raise ConfigError(
                    path,
                    valid=f'it names {name!r}, which is already in {where}; a '
                    'class can be forgotten once',
                )
            step_of[name] = number
    return step_of


def _check_missing(missing: object, classes: Sequence[str]) -> None:
    if not isinstance(missing, list | tuple):
        raise ConfigError(
            'missing',
            missing,
            "must be a list of class names, or 'rest' for all classes without "
            'a training image',
        )
    known = set(classes)
    for name in missing:
        if name not in known:
            raise unknown_name('missing', name, classes)


def _read_learn(
    learn: object, classes: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Classes to learn at each step, each of them known and there once."""
    learn = learn or ()
    if not isinstance(learn, list | tuple) or not all(
        isinstance(names, list | tuple) for names in learn
    ):
        raise ConfigError(
            'learn',
            learn,
            'must be a list with a list of class names for each step, such '
            "as [['cat'], []]",
        )
    seen: set[str] = set()
    known = set(classes)
    for index, names in enumerate(learn):
        for name in names:
            if name not in known:
                raise unknown_name(f'learn[{index}]', name, classes)
            if name in seen:
                raise ConfigError(
                    f'learn[{index}]',
                    valid=f'it names {name!r} a second time; a class can be '
                    'learned once',
                )
            seen.add(name)
    return tuple(map(tuple, learn))


def _check_learnable(
    names: Sequence[str],
    step: int,
    step_of: Mapping[str, int],
    missing: Collection[str],
    shown: Collection[str],
) -> None:
    """Refuse classes that a step cannot learn."""
    for name in names:
        reason = None
        if step_of.get(name, step + 1) <= step:
            reason = (
                f'which step {step_of[name]} forgets; it can be forgotten '
                f'after step {step}'
            )
        elif name not in shown:
            reason = 'of which the training set shows nothing'
        elif name in missing:
            reason = (
                'which forgetting.missing names, too; without replay data it '
                'cannot be learned'
            )
        if reason is not None:
            raise ConfigError(
                f'learn[{step - 1}]', valid=f'it names {name!r}, {reason}'
            )
