"""``mini_faces``: a face recognition data set that needs no download.

Drawn portraits of people who do not exist, for demos and tests. They are made
in seconds and depend on nothing but their settings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from gslora_mm.utils.errors import ConfigError
from gslora_mm.utils.face_pairs import face_pairs, save_pairs
from .face_drawing import draw_appearance, draw_conditions, draw_faces
from .toy_dataset import PORTIONS, ClassFolders, setting

MINI_FACES_CLASSES = tuple(f'id_{label:03d}' for label in range(100))
PAIRS = 'pairs.txt'


@dataclass(frozen=True, kw_only=True)
class MiniFaces(ClassFolders):
    """Settings of ``mini_faces``.

    An identity is a set of traits (shape of head, eyes, nose and mouth,
    colours of skin, hair and eyes, ...) that is the same in all its pictures.
    Pose, light, expression, clothes, background, noise and what hides a part
    of the face are new in each picture. A picture depends on ``seed``,
    ``size``, its identity and its number alone, so that a smaller set is a
    part of a larger one. ``tune`` and ``test`` have further pictures of the
    same people, to choose settings on and to compare methods on.

    ``pairs.txt`` lists pairs of validation pictures for face verification, a
    line each: ``PATH_A PATH_B SAME``, paths relative to ``val/``, and 1 for
    the same person or 0 for two different ones. There are ``num_pairs`` of
    each identity and one of every two.
    """

    name: ClassVar[str] = 'mini_faces'
    version: ClassVar[int] = 1
    amount_name: ClassVar[str] = 'num_{}'

    num_ids: int = setting(
        100, 'identities', least=2, most=len(MINI_FACES_CLASSES)
    )
    num_train: int = setting(60, 'training pictures of each')
    num_val: int = setting(10, 'validation pictures of each', least=2)
    num_tune: int = setting(
        10, 'pictures of each to choose settings on', least=0
    )
    num_test: int = setting(
        20, 'pictures of each to compare methods on', least=0
    )
    num_pairs: int = setting(20, 'pairs for verification of each')
    seed: int = setting(0, 'seed of the pictures', least=0)
    size: int = setting(32, 'height and width in px', least=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.num_val * (self.num_val - 1) // 2
        if self.num_pairs > most:
            raise ConfigError(
                'num_pairs', self.num_pairs, f'must be at most {most}'
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the identities."""
        return MINI_FACES_CLASSES[: self.num_ids]

    def pictures(self, portion: str, label: int) -> np.ndarray:
        """Draw the pictures of an identity in a portion."""
        seeds = [self.seed, label]
        appearance = draw_appearance(np.random.RandomState(seeds))
        conditions = [
            draw_conditions(
                np.random.RandomState([*seeds, PORTIONS[portion], index]),
                self.size,
            )
            for index in range(self.amount(portion))
        ]
        return draw_faces(appearance, conditions, self.size)

    def draw(self, root: Path, portion: str) -> None:
        """Draw the pictures of a portion, and list pairs of validation."""
        super().draw(root, portion)
        if portion == 'val':
            images = {
                name: [f'{name}/{i:03d}.png' for i in range(self.num_val)]
                for name in self.classes
            }
            pairs = face_pairs(images, self.num_pairs, seed=self.seed)
            save_pairs(pairs, root / PAIRS)

    def is_complete(self, root: Path, portion: str) -> bool:
        """Whether the listed pictures are there, and the list of pairs."""
        has_pairs = (root / PAIRS).is_file()
        return has_pairs and super().is_complete(root, portion)


def make_mini_faces(root: str | Path, **settings: int) -> Path:
    """Make the data set, or return at once where it is already complete.

    Args:
        root (str | Path): Folder to make.
        **settings (int): See :class:`MiniFaces`.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: A setting is out of range, or ``root`` holds files that
            are not of a mini_faces.
    """
    return MiniFaces(**settings).make(root)
