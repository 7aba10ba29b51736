from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gslora_mm.datasets import ClassOrder
from gslora_mm.utils import ConfigError
from gslora_mm.utils.errors import unknown_name


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
    def from_config(
        cls,
        forgetting: dict,
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
            forgetting (dict): The ``forgetting`` entry of a config.
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
        missing = forgetting.get('missing') or ()
        candidates = classes
        if missing == 'rest':
            missing = [name for name in classes if name not in shown]
            candidates = tuple(name for name in classes if name in shown)
            if not is_replayed:
                missing = []  # there is nothing that these lack
        if not isinstance(missing, list | tuple):
            raise ConfigError(
                f'forgetting.missing = {missing!r}: must be a list of class '
                "names, or 'rest' for all classes without a training image"
            )
        learn = _read_learn(forgetting.get('learn') or (), classes)
        learned = _union(learn)
        candidates = [name for name in candidates if name not in learned]
        steps = forgetting.get('steps')
        if isinstance(steps, dict):
            order = dict(steps)
            order.pop('type', None)
            try:
                steps = ClassOrder(**order).steps(candidates)
            except TypeError as error:
                raise ConfigError(
                    f'forgetting.steps = {dict(steps)}: {error}; arguments '
                    'are scheme, seed, num_steps and classes_per_step'
                ) from None
        if not isinstance(steps, list | tuple) or not steps:
            raise ConfigError(
                f'forgetting.steps = {steps!r}: must be a list with a list '
                "of class names for each step, such as [['cat'], ['dog']], or "
                "dict(type='gslora_mm.ClassOrder', ...)"
            )
        seen: dict[str, int] = {}
        for number, names in enumerate(steps, 1):
            key = f'forgetting.steps[{number - 1}]'
            if not isinstance(names, list | tuple) or not names:
                raise ConfigError(
                    f'{key} = {names!r}: step {number} forgets nothing; it '
                    'must be a list of at least one class name'
                )
            for name in names:
                if name not in classes:
                    raise unknown_name(key, name, classes)
                if name in seen:
                    where = (
                        f'steps {seen[name]} and {number}'
                        if seen[name] != number
                        else f'step {number}, twice'
                    )
                    raise ConfigError(
                        f'{key} names {name!r}, which is already in {where}; '
                        'a class can be forgotten once'
                    )
                seen[name] = number
        known = set(classes) - learned
        if known <= set(seen):
            raise ConfigError(
                f'forgetting.steps forgets all {len(known)} classes; at '
                'least one has to be retained'
            )
        missing = tuple(missing)
        for name in missing:
            if name not in classes:
                raise unknown_name('forgetting.missing', name, classes)
        if learn and len(learn) != len(steps):
            raise ConfigError(
                f'forgetting.learn has {len(learn)} entries for {len(steps)} '
                'steps; it needs one for each, [] where nothing is learned'
            )
        for number, names in enumerate(learn, 1):
            _check_learnable(names, number, seen, missing, shown)
        accounted = shown.union(seen, missing)
        absent = [name for name in classes if name not in accounted]
        if absent and is_replayed:
            raise ConfigError(
                f'forgetting.missing: the training set shows nothing of '
                f'{len(absent)} classes that are neither forgotten nor named '
                f'there, such as {absent[0]!r}; name them, or write '
                "missing='rest' for all classes without a training image"
            )
        if not known - set(seen) - set(missing):
            hint = '; the method needs none, so leave it out'
            raise ConfigError(
                'forgetting.missing leaves no retained class with replay data'
                + hint * (not is_replayed)
            )
        steps = tuple(map(tuple, steps))
        return cls(classes, steps, missing, learn if learned else ())


def _union(steps: Iterable[Iterable[str]]) -> set[str]:
    """Class names of some steps."""
    return {name for names in steps for name in names}


def _read_learn(
    learn: object, classes: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """``forgetting.learn``, with each of its names known and there once."""
    if not isinstance(learn, list | tuple) or not all(
        isinstance(names, list | tuple) for names in learn
    ):
        raise ConfigError(
            f'forgetting.learn = {learn!r}: must be a list with a list of '
            "class names for each step, such as [['cat'], []]"
        )
    seen: set[str] = set()
    for index, names in enumerate(learn):
        for name in names:
            key = f'forgetting.learn[{index}]'
            if name not in classes:
                raise unknown_name(key, name, classes)
            if name in seen:
                raise ConfigError(
                    f'{key} names {name!r} a second time; a class can be '
                    'learned once'
                )
            seen.add(name)
    return tuple(map(tuple, learn))


def _check_learnable(
    names: Sequence[str],
    step: int,
    forgotten: Mapping[str, int],
    missing: Collection[str],
    shown: Collection[str],
) -> None:
    """Refuse classes that a step cannot learn."""
    for name in names:
        key = f'forgetting.learn[{step - 1}] names {name!r}'
        if forgotten.get(name, step + 1) <= step:
            raise ConfigError(
                f'{key}, which step {forgotten[name]} forgets; it can be '
                f'forgotten after step {step}'
            )
        if name not in shown:
            raise ConfigError(
                f'{key}, of which the training set shows nothing'
            )
        if name in missing:
            raise ConfigError(
                f'{key}, which forgetting.missing names, too; without replay '
                'data it cannot be learned'
            )
