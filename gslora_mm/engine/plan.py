from collections.abc import Collection, Sequence
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
    """

    classes: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def splits(self, step: int) -> dict[str, list[str]]:
        """Class names of each split after a step.

        Args:
            step (int): Number of the step, from 1.

        Returns:
            dict[str, list[str]]: ``forget`` (this step), ``retain`` (what
            stays), ``old`` (forgotten before), ``missing`` (the part of
            retain without replay data), each in label order.
        """
        forget = set(self.steps[step - 1])
        old = {name for names in self.steps[: step - 1] for name in names}
        retain = set(self.classes) - forget - old
        chosen = {
            'forget': forget,
            'retain': retain,
            'old': old,
            'missing': retain & set(self.missing),
        }
        return {
            split: [name for name in self.classes if name in names]
            for split, names in chosen.items()
        }

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
    ) -> 'ForgettingPlan':
        """Read and check ``forgetting.steps`` and ``forgetting.missing``.

        With ``missing='rest'``, all classes that are not ``shown`` are
        missing, and a ``ClassOrder`` draws from the shown ones alone.

        Args:
            forgetting (dict): The ``forgetting`` entry of a config.
            classes (Sequence[str]): All classes of the dataset.
            shown (Collection[str], optional): Those of which the training
                set has an image. Defaults to None: all.

        Raises:
            ConfigError: If a class is unknown or forgotten twice, a step is
                empty, nothing would be retained, or no retained class would
                have replay data.
        """
        classes = tuple(classes)
        shown = set(classes if shown is None else shown)
        missing = forgetting.get('missing') or ()
        candidates = classes
        if missing == 'rest':
            missing = [name for name in classes if name not in shown]
            candidates = tuple(name for name in classes if name in shown)
        if not isinstance(missing, list | tuple):
            raise ConfigError(
                f'forgetting.missing = {missing!r}: must be a list of class '
                "names, or 'rest' for all classes without a training image"
            )
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
        if len(seen) == len(classes):
            raise ConfigError(
                f'forgetting.steps forgets all {len(classes)} classes; at '
                'least one has to be retained'
            )
        missing = tuple(missing)
        for name in missing:
            if name not in classes:
                raise unknown_name('forgetting.missing', name, classes)
        accounted = shown.union(seen, missing)
        absent = [name for name in classes if name not in accounted]
        if absent:
            raise ConfigError(
                f'forgetting.missing: the training set shows nothing of '
                f'{len(absent)} classes that are neither forgotten nor named '
                f'there, such as {absent[0]!r}; name them, or write '
                "missing='rest' for all classes without a training image"
            )
        if not set(classes) - set(seen) - set(missing):
            raise ConfigError(
                'forgetting.missing leaves no retained class with replay data'
            )
        return cls(classes, tuple(map(tuple, steps)), missing)
