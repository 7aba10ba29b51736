"""``mini_coco``: a detection data set that needs no download.

COCO-format scenes of real handwritten digits, for demos and tests. They are
made in seconds and depend on nothing but their settings.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gslora_mm.utils.atomic import atomic_write
from .digit_scenes import CLASSES, digit_scans, draw_scene
from .generated import (
    SPLIT_NUMBERS,
    TEST,
    TUNE,
    check_range,
    make_splits,
    save_png,
)

MINI_COCO_CLASSES = CLASSES
MARKER = 'mini_coco.json'
_VERSION = 3  # of the way scenes are drawn: part of the settings


def make_mini_coco(
    root: str | Path,
    num_train: int = 1500,
    num_val: int = 250,
    seed: int = 0,
    size: int = 96,
    max_digits: int = 4,
    num_tune: int = 150,
    num_test: int = 250,
) -> Path:
    """Make the data set, or return at once where it is already complete.

    Scene number ``i`` of a split depends on ``seed``, ``size``,
    ``max_digits`` and ``i`` alone, so a smaller set is a part of a larger
    one. No scan of a digit is used both for training and for validation; the
    scenes to choose settings on, ``tune``, are new ones of training scans,
    those to compare methods on, ``test``, new ones of validation scans.
    Boxes are tight around what is drawn, and ``area`` is that of the box.

    A marker file says with which settings a folder was made and whether it
    was finished: a folder that was left half-made, has lost files or was made
    with other settings is made again. Processes that do so at the same time
    do no harm, they write the same bytes.

    Args:
        root (str | Path): Folder to make, with ``train/``, ``val/``,
            ``tune/``, ``test/`` and
            ``annotations/instances_{train,val,tune,test}.json``.
        num_train (int): Number of training scenes. Defaults to 1500.
        num_val (int): Number of validation scenes. Defaults to 250.
        seed (int): Seed of everything that is drawn. Defaults to 0.
        size (int): Height and width of a scene in pixels, at least 64.
            Defaults to 96.
        max_digits (int): Largest number of digits in a scene; the smallest
            is 1. Defaults to 4.
        num_tune (int): Number of scenes to choose settings on; with 0 there
            is no such split. Defaults to 150.
        num_test (int): Number of scenes to compare methods on; with 0 there
            is no such split. Defaults to 250.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: A setting is out of range, or ``root`` holds files that
            are not of a mini_coco.
    """
    settings = dict(
        num_train=num_train,
        num_val=num_val,
        seed=seed,
        size=size,
        max_digits=max_digits,
    )
    more = {TUNE: dict(num_tune=num_tune), TEST: dict(num_test=num_test)}
    check_range(
        {**settings, **more[TUNE], **more[TEST]},
        dict(num_tune=0, num_test=0, seed=0, size=64),
    )
    settings['version'] = _VERSION
    root = Path(root)
    counts = dict(train=num_train, val=num_val, tune=num_tune, test=num_test)

    def make(splits: Sequence[str]) -> None:
        scans = digit_scans(seed)
        scans[TUNE], scans[TEST] = scans['train'], scans['val']
        for split in splits:
            seeds = [seed, SPLIT_NUMBERS[split]]
            _make_split(
                root, split, counts[split], settings, seeds, scans[split]
            )

    def is_complete(splits: Sequence[str]) -> bool:
        return all(
            _annotation_file(root, split).is_file()
            and len(_pictures(root / split)) == counts[split]
            for split in splits
        )

    return make_splits(root, MARKER, settings, more, is_complete, make)


def _make_split(
    root: Path,
    split: str,
    count: int,
    settings: dict,
    seeds: list[int],
    scans: list[np.ndarray],
) -> None:
    folder = root / split
    folder.mkdir(exist_ok=True)
    size = settings['size']
    images, annotations = [], []
    for index in range(count):
        rng = np.random.RandomState([*seeds, index])
        picture, objects = draw_scene(rng, scans, size, settings['max_digits'])
        image = dict(
            id=index + 1,
            file_name=f'{index:06d}.png',
            height=size,
            width=size,
        )
        save_png(picture, folder / image['file_name'])
        images.append(image)
        for label, box in objects:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image['id'],
                    category_id=label + 1,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    for path in _pictures(folder):
        if int(path.stem) >= count:  # of a larger set made here before
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
    with atomic_write(_annotation_file(root, split), 'w') as file:
        file.write(json.dumps(content, separators=(',', ':')))


def _annotation_file(root: Path, split: str) -> Path:
    return root / 'annotations' / f'instances_{split}.json'


def _pictures(folder: Path) -> list[Path]:
    return list(folder.glob('[0-9]*.png'))
