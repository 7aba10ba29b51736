import hashlib
import json
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from gslora_mm.toy_data import MINI_COCO_CLASSES, digit_scenes, make_mini_coco
from gslora_mm.utils import ConfigError

TOOL = Path(__file__).parents[2] / 'tools/dataset_tools/make_mini_coco.py'
SMALL = dict(num_train=24, num_val=8, num_tune=4, num_test=6)


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


@pytest.fixture
def no_drawing(monkeypatch):
    def refuse(*_):
        raise AssertionError('drew a scene of a data set that is complete')

    monkeypatch.setattr('gslora_mm.toy_data.mini_coco.draw_scene', refuse)


def test_format(mini_coco):
    counts = dict(train=24, val=8, tune=4, test=6)
    for portion, count in counts.items():
        path = mini_coco / 'annotations' / f'instances_{portion}.json'
        content = json.loads(path.read_text())
        assert content['categories'] == [
            dict(id=i + 1, name=name)
            for i, name in enumerate(MINI_COCO_CLASSES)
        ]
        assert len(content['images']) == count
        assert COCO(path).getImgIds() == list(range(1, count + 1))
        for image in content['images']:
            picture = Image.open(mini_coco / portion / image['file_name'])
            assert picture.mode == 'RGB'
            assert (
                picture.size == (image['width'], image['height']) == ((96, 96))
            )
        digits = Counter(a['image_id'] for a in content['annotations'])
        assert set(digits) == set(range(1, count + 1))
        assert set(digits.values()) <= {1, 2, 3, 4}
        for annotation in content['annotations']:
            x, y, w, h = annotation['bbox']
            assert x >= 0 and y >= 0 and x + w <= 96 and y + h <= 96
            assert annotation['area'] == w * h
            assert 20 <= h <= 48


def test_same_settings_same_bytes(mini_coco, tmp_path):
    again = make_mini_coco(tmp_path / 'again', **SMALL)
    assert files_of(again) == files_of(mini_coco)
    other = make_mini_coco(tmp_path / 'other', **SMALL, seed=1)
    name = 'train/000000.png'
    assert files_of(other)[name] != files_of(mini_coco)[name]


def test_smaller_set_is_part_of_a_larger_one(mini_coco, tmp_path):
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    small = make_mini_coco(
        tmp_path / 'small', num_train=5, num_val=2, num_tune=3, num_test=1
    )
    assert np.random.rand() == expected  # nothing global is touched
    files = files_of(mini_coco)
    pictures = {k: v for k, v in files_of(small).items() if '.png' in k}
    assert len(pictures) == 11
    assert all(files[name] == content for name, content in pictures.items())


def test_digits_of_validation_are_new():
    scans = digit_scenes.digit_scans(seed=0)
    assert sum(len(s) for portion in scans.values() for s in portion) == 1797
    for train, val in zip(scans['train'], scans['val'], strict=True):
        assert len(val) == round(0.2 * (len(train) + len(val)))
        known = {scan.tobytes() for scan in train}
        assert not any(scan.tobytes() in known for scan in val)


def test_more_portions_show_new_scenes_of_digits_of_the_first(
    mini_coco, monkeypatch
):
    drawn = []

    def record(rng, scans, size, max_digits):
        drawn.append(scans)
        return draw_scene(rng, scans, size, max_digits)

    draw_scene = digit_scenes.draw_scene
    monkeypatch.setattr('gslora_mm.toy_data.mini_coco.draw_scene', record)
    make_mini_coco(mini_coco.parent / 'recorded', **SMALL)
    for source, shown_scans in (('train', drawn[32:36]), ('val', drawn[36:])):
        known = [
            {scan.tobytes() for scan in scans}
            for scans in digit_scenes.digit_scans(seed=0)[source]
        ]
        for scans in shown_scans:
            shown = [{scan.tobytes() for scan in each} for each in scans]
            assert shown == known
    scenes = [
        content
        for name, content in files_of(mini_coco).items()
        if name.endswith('.png')
    ]
    assert len(set(scenes)) == len(scenes) == 42


@pytest.mark.parametrize('portion', ['tune', 'test'])
def test_data_without_a_portion_are_completed(mini_coco, tmp_path, portion):
    root = make_mini_coco(tmp_path, **{**SMALL, f'num_{portion}': 0})
    before = files_of(root)
    assert before and not [name for name in before if portion in name]
    ages = {name: (root / name).stat().st_mtime_ns for name in before}
    make_mini_coco(root, **SMALL)
    assert files_of(root) == files_of(mini_coco)
    for name, content in before.items():
        assert (root / name).stat().st_mtime_ns == ages[name]
        assert (root / name).read_bytes() == content


def test_boxes_are_tight():
    scans = digit_scenes.digit_scans(seed=0)['train']
    for seed in range(20):
        picture, objects = digit_scenes.draw_scene(
            np.random.RandomState(seed), scans, 96, max_digits=1
        )
        # The background is what is drawn first.
        background = digit_scenes._draw_background(
            np.random.RandomState(seed), 96
        )
        changed = np.abs(picture - background).max(-1) > 25
        ys, xs = np.nonzero(changed)
        [(label, (x, y, w, h))] = objects
        assert 0 <= label < 10
        drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(drawn - [x, y, x + w, y + h]).max() <= 1


def test_digits_stand_apart():
    scans = digit_scenes.digit_scans(seed=0)['train']
    for seed in range(30):
        _, objects = digit_scenes.draw_scene(
            np.random.RandomState(seed), scans, 96, max_digits=6
        )
        covered = np.zeros((96, 96), int)
        for _, (x, y, w, h) in objects:
            covered[y : y + h, x : x + w] += 1
        shared = (covered > 1).sum()
        assert shared <= 0.05 * (covered > 0).sum()


def test_second_call_draws_nothing(mini_coco, no_drawing):
    assert make_mini_coco(mini_coco, **SMALL) == mini_coco


@pytest.mark.parametrize(
    'damage',
    [
        lambda root: (root / 'train' / '000003.png').unlink(),
        lambda root: (root / 'annotations/instances_val.json').unlink(),
        lambda root: shutil.rmtree(root / 'val'),
        lambda root: (root / 'tune' / '000001.png').unlink(),
        lambda root: (root / 'annotations/instances_tune.json').unlink(),
        lambda root: (root / 'test' / '000005.png').unlink(),
        lambda root: (root / 'mini_coco.json').write_text('{"finished": tr'),
    ],
)
def test_damaged_data_are_made_again(mini_coco, tmp_path, damage):
    root = tmp_path / 'data'
    shutil.copytree(mini_coco, root)
    damage(root)
    make_mini_coco(root, **SMALL)
    assert files_of(root) == files_of(mini_coco)


def test_other_settings(mini_coco, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(mini_coco, root)
    settings = dict(num_train=3, num_val=2, size=64, num_tune=1, num_test=1)
    make_mini_coco(root, **settings)
    fresh = make_mini_coco(tmp_path / 'b', **settings)
    assert files_of(root) == files_of(fresh)


def test_interruption(mini_coco, tmp_path, monkeypatch):
    root = tmp_path / 'data'
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return digit_scenes.draw_scene(*args)

    monkeypatch.setattr('gslora_mm.toy_data.mini_coco.draw_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_mini_coco(root, **SMALL)
    assert len(list((root / 'train').iterdir())) == 9
    make_mini_coco(root, **SMALL)
    assert files_of(root) == files_of(mini_coco)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / 'train').mkdir()
    precious = tmp_path / 'train' / '000000.png'
    precious.write_bytes(b'precious')
    with pytest.raises(ConfigError, match='not empty .* left alone'):
        make_mini_coco(tmp_path, **SMALL)
    assert files_of(tmp_path) == {'train/000000.png': b'precious'}


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_train=0), 'num_train = 0: must be at least 1'),
        (dict(num_val=-1), 'num_val = -1: must be at least 1'),
        (dict(num_tune=-1), 'num_tune = -1: must be at least 0'),
        (dict(num_test=-1), 'num_test = -1: must be at least 0'),
        (dict(seed=-1), 'seed = -1: must be at least 0'),
        (dict(size=63), 'size = 63: must be at least 64'),
        (dict(max_digits=0), 'max_digits = 0: must be at least 1'),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_mini_coco(tmp_path / 'data', **settings)
    assert not (tmp_path / 'data').exists()


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['make_mini_coco.py', *arguments])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_tool(mini_coco, tmp_path, monkeypatch, capsys):
    root = tmp_path / 'data'
    sizes = ['--num-train', '24', '--num-val', '8', '--num-tune', '4']
    sizes += ['--num-test', '6']
    run_tool(monkeypatch, '--root', str(root), *sizes)
    said = capsys.readouterr().out
    assert '24 training, 8 validation, 4 tuning and 6 test scenes' in said
    assert files_of(root) == files_of(mini_coco)
    with pytest.raises(SystemExit, match='error: size = 8: must be at least'):
        run_tool(monkeypatch, '--root', str(root), '--size', '8')


def test_data_made_by_the_first_version_stay_as_they_are(mini_coco):
    """Whoever has them does not have to make them again."""
    marker = """{
  "num_train": 24,
  "num_val": 8,
  "seed": 0,
  "size": 96,
  "max_digits": 4,
  "version": 3,%s
  "finished": true
}
"""
    for portion, amount in (('', ''), ('tune', 4), ('test', 6)):
        more = f'\n  "num_{portion}": {amount},' if portion else ''
        text = (mini_coco / portion / 'mini_coco.json').read_text()
        assert text == marker % more
    files = files_of(mini_coco)
    digest = hashlib.sha256()
    for name in sorted(files):
        if name.endswith('.json'):
            digest.update(files[name])
    assert digest.hexdigest().startswith('a7f8a10dad14')
