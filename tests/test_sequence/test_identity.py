"""Files that have changed under a sequence are noticed."""

import pytest
from mmengine.config import Config

from gslora_mm.sequence.identity import (
    annotations_sha256,
    changed_input,
    checkpoint_sha256,
    data_of,
)
from gslora_mm.utils.checkpoint import sha256_of


@pytest.fixture
def cfg(tmp_path):
    for name in ('train.json', 'val.json', 'pretrained.pth'):
        (tmp_path / name).write_text(name)
    data = dict(data_root=str(tmp_path), ann_file='train.json')
    wrapped = dict(type='RepeatDataset', dataset=dict(data, type='A'))
    return Config(
        dict(
            train_dataloader=dict(dataset=wrapped),
            val_dataloader=dict(dataset=dict(data, ann_file='val.json')),
            forgetting=dict(pretrained=str(tmp_path / 'pretrained.pth')),
        )
    )


def report_of(cfg):
    return dict(
        pretrained=dict(checkpoint_sha256=checkpoint_sha256(cfg)),
        annotations_sha256=annotations_sha256(cfg),
    )


def test_hashes_are_those_of_the_files(cfg, tmp_path):
    assert data_of(cfg.train_dataloader).ann_file == 'train.json'
    assert annotations_sha256(cfg) == {
        'train_dataloader': sha256_of(tmp_path / 'train.json'),
        'val_dataloader': sha256_of(tmp_path / 'val.json'),
    }
    assert checkpoint_sha256(cfg) == sha256_of(tmp_path / 'pretrained.pth')


@pytest.mark.parametrize(
    ('file', 'key'),
    [
        ('train.json', "train_dataloader.dataset.ann_file = 'train.json'"),
        ('val.json', "val_dataloader.dataset.ann_file = 'val.json'"),
        ('pretrained.pth', 'forgetting.pretrained = '),
    ],
)
def test_a_file_that_has_changed_is_named(cfg, tmp_path, file, key):
    before = report_of(cfg)
    assert changed_input(cfg, before) is None
    (tmp_path / file).write_text('something else')
    assert changed_input(cfg, before).startswith(key)
    (tmp_path / file).write_text(file)
    assert changed_input(cfg, before) is None


def test_what_is_not_known_is_not_compared(cfg, tmp_path):
    before = report_of(cfg)
    assert changed_input(cfg, {}) is None  # of an older version
    for name in ('train.json', 'val.json', 'pretrained.pth'):
        (tmp_path / name).unlink()
    assert annotations_sha256(cfg) == {}
    assert checkpoint_sha256(cfg) is None
    assert changed_input(cfg, before) is None
    cfg.val_dataloader.dataset.ann_file = ''  # folders of images
    assert annotations_sha256(cfg) == {}
