"""Whether the images of a data set are there, before any is needed."""

import os
from collections.abc import Collection

from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset

from gslora_mm.utils.errors import ConfigError
from .build import parts_of_dataset


def check_images(dataset: BaseDataset, indices: Collection[int]) -> None:
    """Look for the files of all images that will be read.

    Images that come from elsewhere than this file system, or from within
    other files, are not looked for.

    Args:
        dataset (BaseDataset): Read.
        indices (Collection[int]): Which of its images.

    Raises:
        ConfigError: With their number and the first names, if some are not
            there. Its path is relative to the data set.
    """
    if not all(map(_reads_files, parts_of_dataset(dataset))):
        return
    paths = [dataset.get_data_info(i).get('img_path') for i in indices]
    wanted = dict.fromkeys(
        path for path in paths if isinstance(path, str) and '://' not in path
    )
    absent = [path for path in wanted if not os.path.isfile(path)]
    if absent:
        raise ConfigError(
            'data_prefix',
            valid=f'{len(absent)} of the {len(wanted)} images that will be '
            f'read are missing: {", ".join(absent[:3])}'
            + ', ...'
            * (len(absent) > 3)
            + '; put them there, name their folder, or take them out of '
            'ann_file',
        )


def _reads_files(dataset: BaseDataset) -> bool:
    """Whether images are read from files of their own that are here."""
    backends = [getattr(dataset, 'backend_args', None)]
    loaders = [
        transform
        for transform in getattr(dataset.pipeline, 'transforms', ())
        if isinstance(transform, LoadImageFromFile)
    ]
    backends += [getattr(each, 'backend_args', None) for each in loaders]
    is_local = all(
        (args or {}).get('backend', 'local') == 'local' for args in backends
    )
    return bool(loaders) and is_local
