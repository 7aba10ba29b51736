"""The splits that a metric is asked for."""

from collections.abc import Mapping, Sequence

from gslora_mm.utils import ConfigError, unknown_name


def read_splits(splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Class names by split name, as lists.

    Args:
        splits (Mapping): As in the config of a metric.

    Raises:
        ConfigError: If a split is no list, or names a class twice.
    """
    for split, names in splits.items():
        if isinstance(names, str) or len(set(names)) < len(names):
            raise ConfigError(
                f'val_evaluator.splits.{split}: {names!r} must be a list of '
                'different class names'
            )
    return {split: list(names) for split, names in splits.items()}


def check_split_names(
    splits: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> None:
    """Refuse splits with a class that the dataset does not have.

    Raises:
        ConfigError: With the nearest names.
    """
    known = set(classes)
    for split, names in splits.items():
        for name in names:
            if name not in known:
                raise unknown_name(
                    f'val_evaluator.splits.{split}', name, classes
                )
