"""The frame of before-and-after pictures, whatever the task."""

import ast
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.reports import pictures as pictures_module
from gslora_mm.reports.pictures import choose_images, draw_pictures, read_image
from tests.work_dirs import make_work_dir


def test_images_are_chosen_by_what_they_show():
    names = [
        ['person'],
        ['dog'],
        ['dog', 'person'],
        ['car', *['cat'] * 4],
        ['car', 'cat'],
        [],
    ]
    requests = [['dog'], ['car']]
    assert choose_images(names, requests, 2) == [2, 4]
    # Turns go on until a step has no image left.
    assert choose_images(names, requests, 9) == [2, 4, 1, 3]
    assert choose_images(names, [['zebra']], 3) == []
    assert choose_images(names, [], 3) == []


def test_images_show_many_forgotten_categories():
    names = [['dog'], ['dog', 'car'], ['car'], ['tie', 'dog']]
    assert choose_images(names, [['dog', 'car', 'tie']], 2) == [1, 3]


def test_images_in_memory():
    """Such as MNIST's and CIFAR's."""

    class Arrays(BaseDataset):
        def load_data_list(self):
            return [
                dict(img=np.full((4, 5), 7, np.uint8)),
                dict(img=np.full((4, 5, 3), 9, np.uint8)),
            ]

    init_default_scope('mmpretrain')
    dataset = Arrays()
    assert (read_image(dataset, 0) == 7).all()
    assert (read_image(dataset, 1) == 9).all()
    assert read_image(dataset, 0).shape == (4, 5, 3)


def test_a_task_without_pictures_has_none(tmp_path):
    make_work_dir(tmp_path, task='another')
    assert not draw_pictures(tmp_path, dict(task='another'), tmp_path / 'x')


def test_reports_import_no_library_of_one_task():
    """A report of a classifier needs no mmdet, and the reverse."""
    folder = Path(pictures_module.__file__).parent
    for file in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or '']
            libraries = {name.partition('.')[0] for name in names}
            assert not libraries & {'mmdet', 'mmpretrain'}, file
