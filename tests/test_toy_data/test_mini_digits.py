import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from gslora_mm.toy_data import MINI_DIGITS_CLASSES, make_mini_digits
from gslora_mm.toy_data.digit_scenes import digit_scans, draw_digit
from gslora_mm.utils import ConfigError

REPO = Path(__file__).parents[2]
CONFIG = REPO / 'configs/mini/vit_mini-digits.py'
TOOL = REPO / 'tools/dataset_tools/make_mini_digits.py'
SMALL = dict(max_scans=3, train_copies=2)


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def test_format(mini_digits):
    for portion, copies in dict(train=2, val=2, tune=1, test=2).items():
        lines = (mini_digits / f'{portion}.txt').read_text().splitlines()
        assert lines == [
            f'{name}/{index:03d}.png {label}'
            for label, name in enumerate(MINI_DIGITS_CLASSES)
            for index in range(3 * copies)  # 3 scans
        ]
        folders = [x for x in (mini_digits / portion).iterdir() if x.is_dir()]
        assert len(folders) == 10
        for line in lines:
            picture = Image.open(mini_digits / portion / line.split()[0])
            assert picture.mode == 'RGB'
            assert picture.size == (32, 32)


def test_all_scans_are_used(tmp_path):
    root = make_mini_digits(
        tmp_path, train_copies=1, val_copies=1, size=16, test_copies=1
    )
    scans = digit_scans(seed=0)
    counts = {}
    sources = dict(train='train', val='val', tune='train', test='val')
    for portion, source in sources.items():
        lines = (root / f'{portion}.txt').read_text().splitlines()
        counts[portion] = len(lines)
        assert counts[portion] == sum(map(len, scans[source]))
    assert counts == dict(train=1438, val=359, tune=1438, test=359)


def test_validation_shows_new_digits(mini_digits, monkeypatch):
    """What is drawn in a portion comes from the scans of that portion."""
    drawn = []

    def record(rng, scan, size):
        drawn.append(scan.tobytes())
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr('gslora_mm.toy_data.mini_digits.draw_digit', record)
    make_mini_digits(mini_digits.parent / 'recorded', **SMALL)
    train, val, tune, test = map(
        set, (drawn[:60], drawn[60:120], drawn[120:150], drawn[150:])
    )
    assert (len(train), len(val)) == (30, 30)
    assert not train & val
    assert tune == train and test == val


def test_no_picture_twice(mini_digits):
    pictures = [
        content
        for name, content in files_of(mini_digits).items()
        if name.endswith('.png')
    ]
    assert len(set(pictures)) == len(pictures) == 60 + 60 + 30 + 60


@pytest.mark.parametrize('portion', ['tune', 'test'])
def test_data_without_a_portion_are_completed(mini_digits, tmp_path, portion):
    root = make_mini_digits(tmp_path, **SMALL, **{f'{portion}_copies': 0})
    before = files_of(root)
    assert before and not [name for name in before if portion in name]
    ages = {name: (root / name).stat().st_mtime_ns for name in before}
    make_mini_digits(root, **SMALL)
    assert files_of(root) == files_of(mini_digits)
    for name, content in before.items():
        assert (root / name).stat().st_mtime_ns == ages[name]
        assert (root / name).read_bytes() == content


def test_same_settings_same_bytes(mini_digits, tmp_path):
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    again = make_mini_digits(tmp_path / 'again', **SMALL)
    assert np.random.rand() == expected  # nothing global is touched
    assert files_of(again) == files_of(mini_digits)
    other = make_mini_digits(tmp_path / 'other', **SMALL, seed=1)
    name = 'train/zero/000.png'
    assert files_of(other)[name] != files_of(mini_digits)[name]


def test_digits_fit_and_stand_out():
    scans = digit_scans(seed=0)['train']
    for label in range(10):
        for index, scan in enumerate(scans[label][:20]):
            rng = np.random.RandomState([label, index])
            picture = draw_digit(rng, scan, 32).astype(float)
            assert picture.shape == (32, 32, 3)
            assert picture.max() - picture.min() > 45


def test_second_call_draws_nothing(mini_digits, monkeypatch):
    def refuse(*_):
        raise AssertionError('drew a digit of a data set that is complete')

    monkeypatch.setattr('gslora_mm.toy_data.mini_digits.draw_digit', refuse)
    assert make_mini_digits(mini_digits, **SMALL) == mini_digits


@pytest.mark.parametrize(
    'damage',
    [
        lambda root: (root / 'train' / 'two' / '001.png').unlink(),
        lambda root: (root / 'val.txt').unlink(),
        lambda root: (root / 'tune.txt').unlink(),
        lambda root: shutil.rmtree(root / 'val' / 'six'),
        lambda root: (root / 'mini_digits.json').write_text('{"fini'),
    ],
)
def test_damaged_data_are_made_again(mini_digits, tmp_path, damage):
    root = tmp_path / 'data'
    shutil.copytree(mini_digits, root)
    damage(root)
    make_mini_digits(root, **SMALL)
    assert files_of(root) == files_of(mini_digits)


def test_other_settings(mini_digits, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(mini_digits, root)
    make_mini_digits(root, max_scans=1, val_copies=1, size=24)
    fresh = make_mini_digits(
        tmp_path / 'fresh', max_scans=1, val_copies=1, size=24
    )
    assert files_of(root) == files_of(fresh)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / 'precious').write_bytes(b'precious')
    with pytest.raises(ConfigError, match='not empty .* left alone'):
        make_mini_digits(tmp_path, **SMALL)
    assert files_of(tmp_path) == {'precious': b'precious'}


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(train_copies=0), 'train_copies = 0: must be at least 1'),
        (dict(tune_copies=-1), 'tune_copies = -1: must be at least 0'),
        (dict(test_copies=-1), 'test_copies = -1: must be at least 0'),
        (dict(max_scans=0), 'max_scans = 0: must be at least 1'),
        (dict(seed=-1), 'seed = -1: must be at least 0'),
        (dict(size=15), 'size = 15: must be at least 16'),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_mini_digits(tmp_path / 'data', **settings)
    assert not (tmp_path / 'data').exists()


def test_tool(mini_digits, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['make_mini_digits.py', *arguments])
        runpy.run_path(str(TOOL), run_name='__main__')

    root = tmp_path / 'data'
    run('--root', str(root), '--max-scans', '3', '--train-copies', '2')
    assert 'are ready' in capsys.readouterr().out
    assert files_of(root) == files_of(mini_digits)
    with pytest.raises(SystemExit, match='error: size = 8: must be at least'):
        run('--root', str(root), '--size', '8')


def test_config_yields_batches(mini_digits):
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader.dataset.data_root = str(mini_digits)
        loader.num_workers, loader.persistent_workers = 0, False
        loader.batch_size = 5
        loader = Runner.build_dataloader(loader, seed=0)
        assert loader.dataset.metainfo['classes'] == MINI_DIGITS_CLASSES
        assert len(loader.dataset) == 60
        batch = next(iter(loader))
        assert [image.shape for image in batch['inputs']] == [(3, 32, 32)] * 5
        for sample in batch['data_samples']:
            folder = Path(sample.img_path).parent.name
            assert MINI_DIGITS_CLASSES[sample.gt_label.item()] == folder
