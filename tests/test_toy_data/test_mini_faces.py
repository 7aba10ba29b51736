import itertools
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from gslora_mm.toy_data import MINI_FACES_CLASSES, make_mini_faces
from gslora_mm.toy_data.face_drawing import (
    draw_appearance,
    draw_conditions,
    draw_faces,
)
from gslora_mm.utils import ConfigError

REPO = Path(__file__).parents[2]
CONFIG = REPO / 'configs/mini/face-transformer_mini-faces.py'
TOOL = REPO / 'tools/dataset_tools/make_mini_faces.py'
SMALL = dict(
    num_ids=5, num_train=4, num_val=3, num_pairs=3, num_tune=2, num_test=1
)


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def pairs_of(root):
    lines = (root / 'pairs.txt').read_text().splitlines()
    return [line.split(' ') for line in lines]


def test_format(mini_faces):
    counts = dict(train=4, val=3, tune=2, test=1)
    for portion, count in counts.items():
        lines = (mini_faces / f'{portion}.txt').read_text().splitlines()
        assert lines == [
            f'id_{label:03d}/{index:03d}.png {label}'
            for label in range(5)
            for index in range(count)
        ]
        for line in lines:
            picture = Image.open(mini_faces / portion / line.split()[0])
            assert picture.mode == 'RGB'
            assert picture.size == (32, 32)


def test_no_picture_twice(mini_faces):
    pictures = [
        content
        for name, content in files_of(mini_faces).items()
        if name.endswith('.png')
    ]
    assert len(set(pictures)) == len(pictures) == 5 * 10


def test_pairs(mini_faces):
    counts = Counter()
    for first, second, same in pairs_of(mini_faces):
        assert first != second
        assert (mini_faces / 'val' / first).is_file()
        assert (mini_faces / 'val' / second).is_file()
        people = [Path(path).parent.name for path in (first, second)]
        assert (people[0] == people[1]) == (same == '1')
        counts[tuple(people)] += 1
    names = MINI_FACES_CLASSES[:5]
    assert counts == {
        **{(name, name): 3 for name in names},
        **dict.fromkeys(itertools.combinations(names, 2), 1),
    }


def test_same_settings_same_bytes(mini_faces, tmp_path):
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    again = make_mini_faces(tmp_path / 'again', **SMALL)
    assert np.random.rand() == expected  # nothing global is touched
    assert files_of(again) == files_of(mini_faces)
    other = make_mini_faces(tmp_path / 'other', **SMALL, seed=1)
    name = 'train/id_000/000.png'
    assert files_of(other)[name] != files_of(mini_faces)[name]


def test_smaller_set_is_part_of_a_larger_one(mini_faces, tmp_path):
    small = make_mini_faces(
        tmp_path,
        num_ids=2,
        num_train=3,
        num_val=2,
        num_pairs=1,
        num_tune=1,
        num_test=1,
    )
    files = files_of(mini_faces)
    pictures = {k: v for k, v in files_of(small).items() if '.png' in k}
    assert len(pictures) == 14
    assert all(files[name] == content for name, content in pictures.items())


def test_appearance_is_that_of_the_identity(monkeypatch, tmp_path):
    """Drawn once for each identity and used for all of its portions."""
    used = {}

    def record(appearance, conditions, size):
        used.setdefault(tuple(appearance.values()), []).append(conditions)
        return np.zeros((len(conditions), size, size, 3), np.uint8)

    monkeypatch.setattr('gslora_mm.toy_data.mini_faces.draw_faces', record)
    make_mini_faces(tmp_path, **SMALL)
    assert len(used) == 5
    for portions in used.values():
        assert [len(conditions) for conditions in portions] == [4, 3, 2, 1]
        angles = [values['yaw'] for portion in portions for values in portion]
        assert len(set(angles)) == 10


@pytest.mark.parametrize('portion', ['tune', 'test'])
def test_data_without_a_portion_are_completed(mini_faces, tmp_path, portion):
    root = make_mini_faces(tmp_path, **{**SMALL, f'num_{portion}': 0})
    before = files_of(root)
    assert before and not [name for name in before if portion in name]
    ages = {name: (root / name).stat().st_mtime_ns for name in before}
    make_mini_faces(root, **SMALL)
    assert files_of(root) == files_of(mini_faces)
    for name, content in before.items():
        assert (root / name).stat().st_mtime_ns == ages[name]
        assert (root / name).read_bytes() == content


def test_only_the_appearance_differs_between_identities():
    def draw(seed):
        conditions = [
            draw_conditions(np.random.RandomState(i), 32) for i in range(8)
        ]
        appearance = draw_appearance(np.random.RandomState(seed))
        return draw_faces(appearance, conditions, 32).astype(float)

    first, second = draw(0), draw(1)
    corner = np.s_[:, :4, :4]  # the background
    np.testing.assert_array_equal(first[corner], second[corner])
    assert np.abs(first - second).mean() > 3


def test_pictures_do_not_depend_on_those_drawn_with_them():
    appearance = draw_appearance(np.random.RandomState(0))
    conditions = [
        draw_conditions(np.random.RandomState([7, i]), 24) for i in range(30)
    ]
    together = draw_faces(appearance, conditions, 24)
    alone = [draw_faces(appearance, [values], 24)[0] for values in conditions]
    np.testing.assert_array_equal(together, alone)
    # Every kind of cover has been seen, and none at all.
    assert {values['occlusion'] for values in conditions} == {-1, 0, 1, 2}


def test_second_call_draws_nothing(mini_faces, monkeypatch):
    def refuse(*_):
        raise AssertionError('drew a face of a data set that is complete')

    monkeypatch.setattr('gslora_mm.toy_data.mini_faces.draw_faces', refuse)
    assert make_mini_faces(mini_faces, **SMALL) == mini_faces


@pytest.mark.parametrize(
    'damage',
    [
        lambda root: (root / 'train' / 'id_002' / '001.png').unlink(),
        lambda root: (root / 'pairs.txt').unlink(),
        lambda root: shutil.rmtree(root / 'val' / 'id_004'),
        lambda root: shutil.rmtree(root / 'tune' / 'id_001'),
        lambda root: (root / 'mini_faces.json').write_text('{"fini'),
    ],
)
def test_damaged_data_are_made_again(mini_faces, tmp_path, damage):
    root = tmp_path / 'data'
    shutil.copytree(mini_faces, root)
    damage(root)
    make_mini_faces(root, **SMALL)
    assert files_of(root) == files_of(mini_faces)


def test_smaller_set_in_the_place_of_a_larger_one(mini_faces, tmp_path):
    settings = {**SMALL, 'num_ids': 2, 'num_train': 2}
    root = tmp_path / 'data'
    shutil.copytree(mini_faces, root)
    make_mini_faces(root, **settings)
    fresh = make_mini_faces(tmp_path / 'fresh', **settings)
    assert files_of(root) == files_of(fresh)
    assert len(list((root / 'train').iterdir())) == 2


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_ids=1), 'num_ids = 1: must be at least 2'),
        (dict(num_ids=101), 'num_ids = 101: must be at most 100'),
        (dict(num_val=1), 'num_val = 1: must be at least 2'),
        (dict(num_tune=-1), 'num_tune = -1: must be at least 0'),
        (dict(num_test=-1), 'num_test = -1: must be at least 0'),
        (
            dict(num_val=3, num_pairs=4),
            'num_pairs = 4: must be at most 3',
        ),
        (dict(size=8), 'size = 8: must be at least 16'),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_mini_faces(tmp_path / 'data', **settings)
    assert not (tmp_path / 'data').exists()


def test_tool(mini_faces, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['make_mini_faces.py', *arguments])
        runpy.run_path(str(TOOL), run_name='__main__')

    root = tmp_path / 'data'
    options = [
        item
        for name, value in SMALL.items()
        for item in ('--' + name.replace('_', '-'), str(value))
    ]
    run('--root', str(root), *options)
    said = capsys.readouterr().out
    assert '3 validation, 2 tuning and 1 test pictures of 5' in said
    assert files_of(root) == files_of(mini_faces)
    with pytest.raises(SystemExit, match='error: size = 8: must be at least'):
        run('--root', str(root), '--size', '8')


def test_config_yields_batches(mini_faces):
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader.dataset.data_root = str(mini_faces)
        loader.num_workers, loader.persistent_workers = 0, False
        loader.batch_size = 5
        loader = Runner.build_dataloader(loader, seed=0)
        assert tuple(loader.dataset.metainfo['classes']) == MINI_FACES_CLASSES
        batch = next(iter(loader))
        assert [image.shape for image in batch['inputs']] == [(3, 32, 32)] * 5
        for sample in batch['data_samples']:
            folder = Path(sample.img_path).parent.name
            assert MINI_FACES_CLASSES[sample.gt_label.item()] == folder
