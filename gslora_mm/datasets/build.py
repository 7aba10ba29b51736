"""Building data sets, with errors that say what to change."""

import collections

from mmengine.dataset import BaseDataset

from gslora_mm.registry import DATASETS
from gslora_mm.utils.errors import ConfigError


def build_dataset(dataset: BaseDataset | dict) -> BaseDataset:
    """Build and read a data set.

    Args:
        dataset (BaseDataset | dict): A data set, which is only read if it
            has not been, or its config.

    Returns:
        BaseDataset: Ready to use.

    Raises:
        ConfigError: The annotation file is missing or not what the data set
            expects, or this is a wrapper of data sets, whose annotations
            cannot be filtered before its pipeline. Its path is relative to
            the data set.
    """
    if isinstance(dataset, dict):
        name, ann_file = dataset.get('type'), dataset.get('ann_file')
    else:
        name = type(dataset).__name__
        ann_file = getattr(dataset, 'ann_file', None)
    try:
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        if isinstance(dataset, BaseDataset):
            dataset.full_init()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            'ann_file',
            ann_file,
            f'cannot be read as a {name}: {type(error).__name__}: {error}',
        ) from error
    if not isinstance(dataset, BaseDataset):
        raise ConfigError(
            'type',
            name,
            'must be a data set that reads annotations itself (a BaseDataset '
            'of MMEngine, such as CocoDataset), not a wrapper; name what it '
            'wraps in its place',
        )
    return dataset


def parts_of_dataset(dataset: BaseDataset) -> list[BaseDataset]:
    """What a data set is made of: its parts, or itself if it has none."""
    return getattr(dataset, 'parts', [dataset])


def check_class_names(dataset: BaseDataset) -> None:
    """Refuse class names that do not tell which label is meant.

    Args:
        dataset (BaseDataset): Read.

    Raises:
        ConfigError: If it has no names, two labels have one name, or names
            are not in the order of the labels.
    """
    path = 'metainfo.classes'
    classes = list(dataset.metainfo.get('classes') or ())
    if not classes:
        raise ConfigError(
            'metainfo',
            valid='no class names; set metainfo=dict(classes=[...])',
        )
    counts = collections.Counter(classes)
    twice = [name for name in classes if counts[name] > 1]
    if twice:
        labels = [i for i, name in enumerate(classes) if name == twice[0]]
        raise ConfigError(
            path,
            valid=f'{twice[0]!r} is the name of labels {labels}; classes are '
            'told by their names, so each needs one of its own (of '
            "ImageNet's two cranes: gslora_mm.ImageNet100 has such names)",
        )
    # mmpretrain numbers labels by the sorted folders, whatever the names.
    folders = getattr(dataset, 'folder_to_idx', {})
    for label, name in enumerate(classes):
        if folders.get(name, label) != label:
            raise ConfigError(
                path,
                valid=f'{name!r} has label {label} there, but its folder has '
                f'label {folders[name]}: labels follow the sorted names of '
                'the folders, so write the classes in that order: '
                f'{list(folders)}',
            )
