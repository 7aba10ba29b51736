"""Building data sets, with errors that say what to change."""

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
            'of MMEngine, such as CocoDataset), not a wrapper',
        )
    return dataset
