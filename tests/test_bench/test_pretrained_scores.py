"""Runs side by side evaluate the model that they start from once."""

import copy

import pytest
from mmengine.config import Config

from gslora_mm.bench.pretrained_scores import share_pretrained_scores
from gslora_mm.sequence.identity import run_identity
from gslora_mm.utils import load_json, save_json
from gslora_mm.work_dir import WorkDir

SCORES = dict(metrics={'step_01.forget/mAP': 0.5}, eval_seconds=3.0)


@pytest.fixture
def other(tmp_path):
    """A run that has evaluated the model."""
    folder = WorkDir(tmp_path / 'other')
    save_json(SCORES, folder.pretrained.metrics)
    text = f'work_dir = {str(folder.pretrained.path)!r}\nmodel = dict(width=8)'
    folder.pretrained.config.write_text(text)
    (tmp_path / 'pretrained.pth').write_bytes(b'one')
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(type='A', width=8),
            train_dataloader=dict(dataset=dict(ann_file='train.json')),
            val_evaluator=dict(type='B'),
            val_dataloader=dict(dataset=dict(ann_file='val.json')),
            forgetting=dict(
                pretrained=str(tmp_path / 'pretrained.pth'),
                steps=[['cat'], ['dog']],
                seed=3,
            ),
            method=dict(type='gslora_mm.DER'),
            adapter=dict(rank=4),
            schedule=dict(
                max_iters=3,
                batch_size=2,
                optim_wrapper=dict(optimizer=dict(lr=0.1)),
            ),
            randomness=dict(seed=3),
            work_dir=str(folder.path),
        )
    )


def changed(other, tmp_path, **settings):
    cfg = copy.deepcopy(other)
    cfg.work_dir = str(tmp_path / 'new')
    cfg.merge_from_dict(settings)
    return cfg, tmp_path / 'new' / 'pretrained' / 'metrics.json'


def share(cfg, *others):
    return share_pretrained_scores(
        WorkDir(cfg.work_dir),
        run_identity(cfg),
        [(WorkDir(each.work_dir), run_identity(each)) for each in others],
    )


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
    cfg, path = changed(other, tmp_path, **settings)
    assert share(cfg, cfg, other)
    assert load_json(path) == SCORES
    assert not WorkDir(cfg.work_dir).has_results  # it may begin
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
    cfg, path = changed(other, tmp_path, **settings)
    assert not share(cfg, cfg, other)
    assert not path.exists()


@pytest.mark.parametrize('file', ['pretrained.pth', 'val.json'])
def test_other_files_under_the_same_name_have_other_scores(
    other, tmp_path, file
):
    other.val_dataloader.dataset.data_root = str(tmp_path)
    (tmp_path / 'val.json').write_text('some')
    cfg, path = changed(other, tmp_path)
    before = (WorkDir(other.work_dir), run_identity(other))
    (tmp_path / file).write_text('others')
    found = share_pretrained_scores(
        WorkDir(cfg.work_dir), run_identity(cfg), [before]
    )
    assert not found and not path.exists()
    assert share(cfg, other)


def test_scores_of_a_checkpoint_that_is_no_file_are_not_shared(
    other, tmp_path
):
    cfg, _ = changed(other, tmp_path)
    (tmp_path / 'pretrained.pth').unlink()
    assert not share(cfg, other)


def test_what_is_missing_may_depend_on_the_method(other, tmp_path):
    other.forgetting.missing = 'rest'
    cfg, _ = changed(other, tmp_path, **{'method.type': 'gslora_mm.DELETE'})
    assert not share(cfg, other)
    cfg, _ = changed(other, tmp_path, **{'method.alpha': 0.3})
    assert share(cfg, other)


@pytest.mark.parametrize('file', ['config.py', 'metrics.json'])
def test_half_written_scores_are_not_shared(other, tmp_path, file):
    cfg, path = changed(other, tmp_path)
    path_there = tmp_path / 'other' / 'pretrained' / file
    if file == 'metrics.json':
        path_there.write_text('{"metrics": {')
        assert not share(cfg, other)
    path_there.unlink()
    assert not share(cfg, other)
    assert not path.exists()


def test_a_run_that_has_begun_is_left_alone(other, tmp_path):
    cfg, path = changed(other, tmp_path)
    save_json({}, tmp_path / 'new' / 'sequence.json')
    save_json(dict(metrics={}), path)
    assert not share(cfg, other)
    assert load_json(path) == dict(metrics={})
    # Killed before it began, long ago.
    (tmp_path / 'new' / 'sequence.json').unlink()
    assert not share(cfg)
    assert not path.exists()
