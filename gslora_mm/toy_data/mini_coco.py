"""``mini_coco``: a detection data set that needs no download.

COCO-format scenes of real handwritten digits, for demos and tests. They are
made in seconds and depend on nothing but their settings.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from gslora_mm.utils.atomic import atomic_write
from .digit_scenes import CLASSES, draw_scene, scans_of
from .toy_dataset import PORTIONS, ToyDataset, save_png, setting

MINI_COCO_CLASSES = CLASSES


@dataclass(frozen=True, kw_only=True)
class MiniCoco(ToyDataset):
    """Settings of ``mini_coco``.

    Scene number ``i`` of a portion depends on ``seed``, ``size``,
    ``max_digits`` and ``i`` alone, so a smaller set is a part of a larger
    one. No scan of a digit is used both for training and for validation; the
    scenes to choose settings on, ``tune``, are new ones of training scans,
    those to compare methods on, ``test``, new ones of validation scans.
    Boxes are tight around what is drawn, and ``area`` is that of the box.

    The folder has ``train/``, ``val/``, ``tune/``, ``test/`` and
    ``annotations/instances_{train,val,tune,test}.json``.
    """

    name: ClassVar[str] = 'mini_coco'
    version: ClassVar[int] = 3
    amount_name: ClassVar[str] = 'num_{}'

    num_train: int = setting(1500, 'training scenes')
    num_val: int = setting(250, 'validation scenes')
    num_tune: int = setting(150, 'scenes to choose settings on', least=0)
    num_test: int = setting(250, 'scenes to compare methods on', least=0)
    seed: int = setting(0, 'seed of the scenes', least=0)
    size: int = setting(96, 'height and width in px', least=64)
    max_digits: int = setting(4, 'highest number of digits in a scene')

    def draw(self, root: Path, portion: str) -> None:
        """Draw the scenes of a portion and annotate them."""
        folder = root / portion
        folder.mkdir(exist_ok=True)
        scans = scans_of(portion, self.seed)
        images, annotations = [], []
        for index in range(self.amount(portion)):
            rng = np.random.RandomState([self.seed, PORTIONS[portion], index])
            picture, objects = draw_scene(
                rng, scans, self.size, self.max_digits
            )
            image = dict(
                id=index + 1,
                file_name=f'{index:06d}.png',
                height=self.size,
                width=self.size,
            )
            save_png(picture, folder / image['file_name'])
            images.append(image)
            annotations += [
                dict(
                    id=number,
                    image_id=image['id'],
                    category_id=label + 1,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
                for number, (label, box) in enumerate(
                    objects, len(annotations) + 1
                )
            ]
        for path in _pictures(folder):
            if int(path.stem) >= len(images):  # of a larger set made before
                path.unlink(missing_ok=True)
        content = dict(
            info=dict(description='mini_coco: scenes of handwritten digits'),
            images=images,
            annotations=annotations,
            categories=[
                dict(id=label + 1, name=name)
                for label, name in enumerate(MINI_COCO_CLASSES)
            ],
        )
        with atomic_write(_annotation_file(root, portion), 'w') as file:
            file.write(json.dumps(content, separators=(',', ':')))

    def is_complete(self, root: Path, portion: str) -> bool:
        """Whether the annotations and as many pictures are there."""
        is_annotated = _annotation_file(root, portion).is_file()
        count = len(_pictures(root / portion))
        return is_annotated and count == self.amount(portion)


def make_mini_coco(root: str | Path, **settings: int) -> Path:
    """Make the data set, or return at once where it is already complete.

    Args:
        root (str | Path): Folder to make.
        **settings (int): See :class:`MiniCoco`.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: A setting is out of range, or ``root`` holds files that
            are not of a mini_coco.
    """
    return MiniCoco(**settings).make(root)


def _annotation_file(root: Path, portion: str) -> Path:
    return root / 'annotations' / f'instances_{portion}.json'


def _pictures(folder: Path) -> list[Path]:
    return list(folder.glob('[0-9]*.png'))
