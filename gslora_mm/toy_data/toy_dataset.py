"""What the toy data sets have in common: drawn on the spot, and only once."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from gslora_mm.utils.atomic import atomic_write, save_json
from gslora_mm.utils.errors import ConfigError

#: Portions of the images, each with its number in the seeds of what is drawn.
#: ``tune`` is there to choose settings on, so that nothing is chosen on
#: ``val``; ``test`` is not looked at while methods and configs are made.
PORTIONS = {'train': 0, 'val': 1, 'tune': 2, 'test': 3}
#: Portions that a data set may do without, each with a marker of its own.
OPTIONAL = ('tune', 'test')


def setting(
    default: int | None, help: str, least: int = 1, most: int | None = None
) -> Any:
    """Make a field of a :class:`ToyDataset`.

    Args:
        default (int, optional): Its default.
        help (str): What it is, in a few words.
        least (int): Smallest value. Defaults to 1.
        most (int, optional): Largest value.
    """
    return field(
        default=default, metadata=dict(help=help, least=least, most=most)
    )


@dataclass(frozen=True, kw_only=True)
class ToyDataset(ABC):
    """Settings of a data set, which decide about every byte of it.

    A marker file says with which settings a folder was made and whether it
    was finished: a folder that was left half-made, has lost files or was made
    with other settings is made again. Processes that do so at the same time
    do no harm, they write the same bytes.

    Raises:
        ConfigError: A setting is out of its range.
    """

    #: Name of the data set, and of its marker files.
    name: ClassVar[str]
    #: Of the way its pictures are drawn.
    version: ClassVar[int]
    #: Setting that says how much there is of a portion, such as ``'num_{}'``.
    amount_name: ClassVar[str]

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            least, most = item.metadata['least'], item.metadata['most']
            if value < least:
                raise ConfigError(
                    item.name, value, f'must be at least {least}'
                )
            if most is not None and value > most:
                raise ConfigError(item.name, value, f'must be at most {most}')

    @abstractmethod
    def draw(self, root: Path, portion: str) -> None:
        """Write all files of a portion, and remove others of an older set."""

    @abstractmethod
    def is_complete(self, root: Path, portion: str) -> bool:
        """Whether all files of a portion are there, and no others."""

    def amount(self, portion: str) -> int:
        """The setting that says how much there is of a portion."""
        return getattr(self, self.amount_name.format(portion))

    def make(self, root: str | Path) -> Path:
        """Make the data set, or return at once where it is already complete.

        The portions ``tune`` and ``test`` are each made on their own: a data
        set that lacks one is completed, and no other file is touched.

        Args:
            root (str | Path): Folder to make.

        Returns:
            Path: ``root``.

        Raises:
            ConfigError: ``root`` holds files that are not of such a data
                set.
        """
        root = Path(root)
        record = {k: v for k, v in vars(self).items() if v is not None}
        for portion in OPTIONAL:
            del record[self.amount_name.format(portion)]
        record['version'] = self.version
        self._make_once(root, ['train', 'val'], root, record)
        for portion in OPTIONAL:
            if amount := self.amount(portion):
                more = {**record, self.amount_name.format(portion): amount}
                self._make_once(root, [portion], root / portion, more)
        return root

    def _make_once(
        self, root: Path, portions: Sequence[str], folder: Path, record: dict
    ) -> None:
        """Make portions unless the marker in the folder says they are made."""
        marker = folder / f'{self.name}.json'
        # In this order: another process may be writing its marker just now.
        occupied = folder.is_dir() and any(folder.glob('[!.]*'))
        found = _read_marker(marker)
        if occupied and found is None:
            raise ConfigError(
                'root',
                str(folder),
                f'the folder is not empty and holds no {marker.name}, so it '
                'is left alone; name a new or an empty folder',
            )
        if found == {**record, 'finished': True} and all(
            self.is_complete(root, portion) for portion in portions
        ):
            return
        save_json({**record, 'finished': False}, marker)
        for portion in portions:
            self.draw(root, portion)
        save_json({**record, 'finished': True}, marker)


class ClassFolders(ToyDataset):
    """A classification data set with one folder of pictures a class.

    Beside the folders ``root/PORTION/CLASS/000.png`` goes the list
    ``root/PORTION.txt`` with a line ``CLASS/000.png LABEL`` for each picture,
    so that labels do not depend on how names of folders are sorted.
    """

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """Names of the labels 0, 1, ..."""

    @abstractmethod
    def pictures(self, portion: str, label: int) -> Iterable[np.ndarray]:
        """Draw the pictures of a class, (size, size, 3), uint8, RGB."""

    def draw(self, root: Path, portion: str) -> None:
        """Draw the pictures of a portion and list them."""
        lines = []
        for label, name in enumerate(self.classes):
            folder = root / portion / name
            folder.mkdir(parents=True, exist_ok=True)
            for index, picture in enumerate(self.pictures(portion, label)):
                file = f'{name}/{index:03d}.png'
                save_png(picture, root / portion / file)
                lines.append(f'{file} {label}\n')
        listed = _listed(lines)
        for file, path in _pictures_in_folders(root / portion).items():
            if file not in listed:  # of a larger set made here before
                path.unlink(missing_ok=True)
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()
        with atomic_write(root / f'{portion}.txt', 'w') as file:
            file.writelines(lines)

    def is_complete(self, root: Path, portion: str) -> bool:
        """Whether the pictures of a portion are those in its list."""
        try:
            lines = (root / f'{portion}.txt').read_text().splitlines()
        except FileNotFoundError:
            return False
        return _pictures_in_folders(root / portion).keys() == _listed(lines)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Save without ever showing another process half a file.

    Args:
        picture (np.ndarray): Shape (height, width, 3), uint8, RGB.
        path (Path): The file, in a folder that exists.
    """
    temporary = path.with_name(f'.{uuid.uuid4().hex}.png')
    Image.fromarray(picture).save(temporary, format='PNG', compress_level=1)
    temporary.replace(path)


def _listed(lines: Iterable[str]) -> set[str]:
    """Files named by lines of a list, without their labels."""
    return {line.rsplit(' ', 1)[0] for line in lines}


def _pictures_in_folders(folder: Path) -> dict[str, Path]:
    """Pictures in the folders of classes, by what lists call them."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.glob('*/[0-9]*.png')
    }


def _read_marker(path: Path) -> dict | None:
    """What the marker says; empty if unreadable, None if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
