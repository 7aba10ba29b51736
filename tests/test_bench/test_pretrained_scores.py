"""Runs side by side evaluate the model that they start from once."""

import copy

import pytest
from mmengine.config import Config

from gslora_mm.sequence.identity import annotations_sha256
from gslora_mm.sequence.pretrained_scores import share_pretrained_scores
from gslora_mm.utils import load_json, save_json

SCORES = dict(metrics={'step_01.forget/mAP': 0.5}, eval_seconds=3.0)


@pytest.fixture
def other(tmp_path):
    """A run that has evaluated the model."""
    folder = tmp_path / 'other'
    save_json(dict(checkpoint_sha256='abc'), folder / 'sequence.json')
    save_json(SCORES, folder / 'pretrained' / 'metrics.json')
    text = f'work_dir = {str(folder / "pretrained")!r}\nmodel = dict(width=8)'
    (folder / 'pretrained' / 'config.py').write_text(text)
    return Config(
        dict(
            model=dict(type='A', width=8),
            val_dataloader=dict(dataset=dict(ann_file='val.json')),
            forgetting=dict(
                pretrained='a.pth', steps=[['cat'], ['dog']], seed=3
            ),
            method=dict(type='gslora_mm.DER'),
            adapter=dict(rank=4),
            schedule=dict(max_iters=3),
            randomness=dict(seed=3),
            work_dir=str(folder),
        )
    )


def beside(other, tmp_path, **settings):
    cfg = copy.deepcopy(other)
    cfg.work_dir = str(tmp_path / 'new')
    cfg.merge_from_dict(settings)
    return cfg, tmp_path / 'new' / 'pretrained' / 'metrics.json'


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'method.type': 'gslora_mm.DELETE'},
        {'adapter.rank': 8},
        {'schedule.max_iters': 9, 'randomness.seed': 4},
        {'forgetting.seed': 4, 'forgetting.retain_share': 0.1},
    ],
)
def test_scores_are_shared(other, tmp_path, settings):
    cfg, path = beside(other, tmp_path, **settings)
    assert share_pretrained_scores(cfg, 'abc', [cfg, other])
    assert load_json(path) == SCORES
    # What draws the pictures of the report builds the model with it.
    found = Config.fromfile(path.with_name('config.py'))
    assert found.model.width == 8 and found.work_dir == str(path.parent)


@pytest.mark.parametrize(
    'settings',
    [
        {'model.width': 9},
        {'val_dataloader.dataset.ann_file': 'tune.json'},
        {'forgetting.steps': [['cat']]},
        {'forgetting.missing': ['cow']},
        {'task': dict(type='other')},
    ],
)
def test_other_scores_are_not(other, tmp_path, settings):
    cfg, path = beside(other, tmp_path, **settings)
    assert not share_pretrained_scores(cfg, 'abc', [cfg, other])
    assert not path.exists()


def test_another_checkpoint_has_other_scores(other, tmp_path):
    cfg, path = beside(other, tmp_path)
    assert not share_pretrained_scores(cfg, 'abd', [other])
    assert not path.exists()


def test_other_images_under_the_same_name_have_other_scores(other, tmp_path):
    for text, shared in (('some', False), ('others', True)):
        (tmp_path / 'val.json').write_text(text)
        other.val_dataloader.dataset.data_root = str(tmp_path)
        cfg, path = beside(other, tmp_path)
        # What the other run has does not say what it was scored on, or does.
        assert share_pretrained_scores(cfg, 'abc', [other]) is shared
        assert path.exists() is shared
        (tmp_path / 'val.json').write_text('others')
        hashes = annotations_sha256(other)
        sequence = dict(checkpoint_sha256='abc', annotations_sha256=hashes)
        save_json(sequence, tmp_path / 'other' / 'sequence.json')


def test_what_is_missing_may_depend_on_the_method(other, tmp_path):
    other.forgetting.missing = 'rest'
    cfg, _ = beside(other, tmp_path, **{'method.type': 'gslora_mm.DELETE'})
    assert not share_pretrained_scores(cfg, 'abc', [other])
    cfg, _ = beside(other, tmp_path, **{'method.alpha': 0.3})
    assert share_pretrained_scores(cfg, 'abc', [other])


@pytest.mark.parametrize('file', ['sequence.json', 'pretrained/metrics.json'])
def test_half_written_scores_are_not_shared(other, tmp_path, file):
    cfg, path = beside(other, tmp_path)
    (tmp_path / 'other' / file).write_text('{"metrics": {')
    assert not share_pretrained_scores(cfg, 'abc', [other])
    (tmp_path / 'other' / file).unlink()
    assert not share_pretrained_scores(cfg, 'abc', [other])
    assert not path.exists()


def test_a_run_that_has_begun_is_left_alone(other, tmp_path):
    cfg, path = beside(other, tmp_path)
    save_json({}, tmp_path / 'new' / 'sequence.json')
    save_json(dict(metrics={}), path)
    assert not share_pretrained_scores(cfg, 'abc', [other])
    assert load_json(path) == dict(metrics={})
    # Killed before it began, long ago.
    (tmp_path / 'new' / 'sequence.json').unlink()
    assert not share_pretrained_scores(cfg, 'new', [other])
    assert not path.exists()
