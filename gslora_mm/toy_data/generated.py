"""What the data sets have in common that are drawn instead of downloaded."""

import functools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gslora_mm.utils.atomic import atomic_write, save_json
from gslora_mm.utils.errors import ConfigError

#: Parts that every data set has.
SPLITS = ('train', 'val')
#: A part to choose settings on, so that nothing is chosen on ``val``.
TUNE = 'tune'
#: A part that nothing is looked at on while methods and configs are made.
TEST = 'test'
#: What stands for a split in the seeds of what is drawn.
SPLIT_NUMBERS = {'train': 0, 'val': 1, TUNE: 2, TEST: 3}


def check_range(
    settings: dict[str, int],
    least: dict[str, int],
    most: dict[str, int] | None = None,
) -> None:
    """Refuse settings that are too small or too large.

    Args:
        settings (dict[str, int]): The settings of a data set.
        least (dict[str, int]): Smallest values; 1 for those not named.
        most (dict[str, int], optional): Largest values.

    Raises:
        ConfigError: One is out of its range.
    """
    for name, value in settings.items():
        smallest, largest = least.get(name, 1), (most or {}).get(name, value)
        if value < smallest:
            raise ConfigError(f'{name}={value}: must be at least {smallest}')
        if value > largest:
            raise ConfigError(f'{name}={value}: must be at most {largest}')


def make_once(
    root: Path,
    marker: str,
    settings: dict,
    is_complete: Callable[[], bool],
    make: Callable[[], None],
) -> Path:
    """Make a data set, or return at once where it is already complete.

    A marker file says with which settings a folder was made and whether it
    was finished: a folder that was left half-made, has lost files or was made
    with other settings is made again. Processes that do so at the same time
    do no harm as long as they write the same bytes.

    Args:
        root (Path): Folder of the data set.
        marker (str): Name of the marker file.
        settings (dict): All that decides about the content.
        is_complete (Callable): Tells whether all files are there.
        make (Callable): Writes all files.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: ``root`` holds files, but no marker.
    """
    # In this order: another process may be writing its marker just now.
    occupied = root.is_dir() and any(root.glob('[!.]*'))
    state = _read_marker(root / marker)
    if occupied and state is None:
        raise ConfigError(
            f'root={str(root)!r}: the folder is not empty and holds no '
            f'{marker}, so it is left alone; name a new or an empty folder'
        )
    if state == dict(settings, finished=True) and is_complete():
        return root
    save_json(dict(settings, finished=False), root / marker)
    make()
    save_json(dict(settings, finished=True), root / marker)
    return root


def make_splits(
    root: Path,
    marker: str,
    settings: dict,
    more: dict[str, dict[str, int]],
    is_complete: Callable[[Sequence[str]], bool],
    make: Callable[[Sequence[str]], None],
) -> Path:
    """Make the splits of a data set, each where it is not yet complete.

    :data:`TUNE` and :data:`TEST` are each made on their own, with a marker in
    their own folder: a data set that lacks one is completed, and no other
    file is touched.

    Args:
        root (Path): Folder of the data set.
        marker (str): Name of the marker files.
        settings (dict): All that decides about the content of ``SPLITS``.
        more (dict[str, dict[str, int]]): By ``TUNE`` and ``TEST`` the setting
            that decides, besides, about it: how much there is of it. With 0
            it is left out.
        is_complete (Callable): Tells whether all files of splits are there.
        make (Callable): Writes all files of splits.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: ``root`` holds files, but no marker.
    """
    parts = [(root, settings, SPLITS)]
    for split, amount in more.items():
        if any(amount.values()):
            parts.append((root / split, {**settings, **amount}, (split,)))
    for folder, wanted, splits in parts:
        make_once(
            folder,
            marker,
            wanted,
            functools.partial(is_complete, splits),
            functools.partial(make, splits),
        )
    return root


def save_png(picture: np.ndarray, path: Path) -> None:
    """Save without ever showing another process half a file.

    Args:
        picture (np.ndarray): Shape (height, width, 3), uint8, RGB.
        path (Path): The file, in a folder that exists.
    """
    temporary = path.with_name(f'.{uuid.uuid4().hex}.png')
    Image.fromarray(picture).save(temporary, format='PNG', compress_level=1)
    temporary.replace(path)


def save_class_folders(
    root: Path,
    split: str,
    classes: Iterable[str],
    draw: Callable[[int], Iterator[np.ndarray]],
) -> None:
    """Save a split of a classification data set, one folder a class.

    Beside the folders ``root/split/CLASS/000.png`` goes the list
    ``root/split.txt`` with a line ``CLASS/000.png LABEL`` for each picture,
    so that labels do not depend on how names of folders are sorted. Pictures
    of a larger set made here before are removed.

    Args:
        root (Path): Folder of the data set.
        split (str): ``'train'``, ``'val'``, ``'tune'`` or ``'test'``.
        classes (Iterable[str]): Names of the labels 0, 1, ...
        draw (Callable): From a label to its pictures, each of shape
            (height, width, 3), uint8, RGB.
    """
    lines = []
    for label, name in enumerate(classes):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(draw(label)):
            file = f'{name}/{index:03d}.png'
            save_png(picture, root / split / file)
            lines.append(f'{file} {label}\n')
    known = {line.rsplit(' ', 1)[0] for line in lines}
    for path in (root / split).glob('*/[0-9]*.png'):
        if f'{path.parent.name}/{path.name}' not in known:
            path.unlink(missing_ok=True)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    with atomic_write(root / f'{split}.txt', 'w') as file:
        file.writelines(lines)


def are_listed_files_there(root: Path, splits: Sequence[str]) -> bool:
    """Whether the pictures of splits are those in their lists.

    Args:
        root (Path): Folder written by :func:`save_class_folders`.
        splits (Sequence[str]): The splits.

    Returns:
        bool: False as well if a list is missing.
    """
    for split in splits:
        try:
            lines = (root / f'{split}.txt').read_text().splitlines()
        except FileNotFoundError:
            return False
        there = {
            f'{path.parent.name}/{path.name}'
            for path in (root / split).glob('*/[0-9]*.png')
        }
        if there != {line.rsplit(' ', 1)[0] for line in lines}:
            return False
    return True


def _read_marker(path: Path) -> dict | None:
    """What the marker says; empty if unreadable, None if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
