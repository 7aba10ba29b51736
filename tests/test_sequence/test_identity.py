"""Which run is this, and what is another one."""

import copy

import pytest
from mmengine.config import Config

from gslora_mm.sequence.identity import (
    annotations_sha256,
    checkpoint_sha256,
    dataset_config,
    first_difference,
    run_identity,
    scores_identity,
    subject_identity,
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
            default_scope='mmdet',
            model=dict(type='DeformableDETR'),
            train_dataloader=dict(dataset=wrapped),
            val_dataloader=dict(dataset=dict(data, ann_file='val.json')),
            val_evaluator=dict(type='CocoMetric'),
            forgetting=dict(
                pretrained=str(tmp_path / 'pretrained.pth'), steps=[['cat']]
            ),
            method=dict(type='gslora_mm.GSLoRA', beta=0.2),
            adapter=dict(rank=4),
            schedule=dict(
                max_iters=1,
                batch_size=2,
                optim_wrapper=dict(optimizer=dict(lr=0.1)),
            ),
            work_dir='here',
        )
    )


def changed(cfg, **settings):
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict({k.replace('__', '.'): v for k, v in settings.items()})
    return cfg


def difference(cfg, other):
    return first_difference(run_identity(cfg), run_identity(other))


def test_the_room_of_a_cache_is_no_part_of_a_run(cfg):
    cfg.schedule.cache = dict(limit_gib=1.0)
    for other in (dict(limit_gib=4.0), dict(store='file'), {}):
        assert not difference(cfg, changed(cfg, schedule__cache=other))
    assert difference(cfg, changed(cfg, schedule__cache__use='off'))
    # With random augmentations, what has no room is drawn anew; and what
    # is frozen behind the trunk rounds otherwise.
    for settings in (
        dict(schedule__cache__variants=2),
        dict(adapter__within='decoder'),
        dict(adapter__exclude=['encoder']),
    ):
        few = changed(cfg, **settings)
        more = changed(few, schedule__cache__limit_gib=4.0)
        assert 'schedule.cache.limit_gib' in difference(few, more)
        file = changed(few, schedule__cache__store='file')
        assert not difference(few, file)


def test_hashes_are_those_of_the_files(cfg, tmp_path):
    assert dataset_config(cfg.train_dataloader).ann_file == 'train.json'
    assert annotations_sha256(cfg) == {
        'train_dataloader': sha256_of(tmp_path / 'train.json'),
        'val_dataloader': sha256_of(tmp_path / 'val.json'),
    }
    assert checkpoint_sha256(cfg) == sha256_of(tmp_path / 'pretrained.pth')


@pytest.mark.parametrize(
    'same',
    [
        dict(work_dir='there'),
        dict(schedule__log_interval=50),  # the default, written down
        dict(vis_backends=[]),
    ],
)
def test_the_same_run(cfg, same):
    assert difference(cfg, changed(cfg, **same)) == ''


@pytest.mark.parametrize(
    'other, words',
    [
        (dict(method__beta=0.3), 'method.beta is 0.2 there and 0.3 here'),
        (dict(adapter__rank=8), 'adapter.rank is 4 there and 8 here'),
        (dict(forgetting__seed=3), 'forgetting.seed is 0 there and 3 here'),
        (dict(model__depth=3), 'model.depth is None there and 3 here'),
        (dict(randomness=dict(seed=3)), 'randomness is None there'),
    ],
)
def test_another_run(cfg, other, words):
    assert difference(cfg, changed(cfg, **other)).startswith(words)


@pytest.mark.parametrize(
    ('file', 'key'),
    [
        ('train.json', 'train_dataloader.dataset.ann_file is another file'),
        ('val.json', 'val_dataloader.dataset.ann_file is another file'),
        ('pretrained.pth', 'forgetting.pretrained is another file'),
    ],
)
def test_a_file_that_has_changed_is_named(cfg, tmp_path, file, key):
    before = run_identity(cfg)
    assert first_difference(before, run_identity(cfg)) == ''
    (tmp_path / file).write_text('something else')
    assert first_difference(before, run_identity(cfg)).startswith(key)
    (tmp_path / file).write_text(file)
    assert first_difference(before, run_identity(cfg)) == ''


def test_what_is_not_known_is_not_compared(cfg, tmp_path):
    before = run_identity(cfg)
    for name in ('train.json', 'val.json', 'pretrained.pth'):
        (tmp_path / name).unlink()
    assert annotations_sha256(cfg) == {}
    assert checkpoint_sha256(cfg) is None
    assert first_difference(before, run_identity(cfg)) == ''
    assert first_difference(run_identity(cfg), before) == ''
    cfg.val_dataloader.dataset.ann_file = ''  # folders of images
    assert annotations_sha256(cfg) == {}


@pytest.mark.parametrize(
    ('settings', 'is_same'),
    [
        (dict(method__beta=0.3), True),
        (dict(adapter__rank=8), True),
        (dict(schedule__max_iters=9, randomness=dict(seed=4)), True),
        (dict(forgetting__seed=4, forgetting__retain_share=0.1), True),
        (dict(model__width=9), False),
        (dict(val_dataloader__dataset__ann_file='tune.json'), False),
        (dict(forgetting__steps=[['cat'], ['dog']]), False),
        (dict(forgetting__missing=['cow']), False),
        (dict(task=dict(type='other')), False),
    ],
)
def test_what_the_first_scores_depend_on(cfg, settings, is_same):
    one, other = map(run_identity, (cfg, changed(cfg, **settings)))
    assert (scores_identity(one) == scores_identity(other)) is is_same


def test_what_is_missing_may_depend_on_the_method(cfg):
    cfg.forgetting.missing = 'rest'
    one = scores_identity(run_identity(cfg))
    other = changed(cfg, method=dict(type='gslora_mm.DELETE', _delete_=True))
    assert scores_identity(run_identity(other)) != one
    other = changed(cfg, method__beta=0.9)
    assert scores_identity(run_identity(other)) == one
    # Nor is it the same if nothing is replayed.
    other = changed(cfg, schedule__forget_ratio=0.25)
    assert scores_identity(run_identity(other)) != one


def test_the_hash_of_a_file_elsewhere_is_compared(cfg):
    cfg.forgetting.pretrained = 'https://host/pretrained.pth'
    one, other = (run_identity(cfg, checkpoint=x) for x in ('a' * 9, 'b' * 9))
    assert first_difference(one, other).startswith('forgetting.pretrained is')


@pytest.mark.parametrize(
    ('settings', 'is_same'),
    [
        (dict(method=dict(type='gslora_mm.DELETE', _delete_=True)), True),
        (dict(adapter__rank=8, model__backbone=dict(drop=0.1)), True),
        (dict(train_dataloader__dataset__dataset__ann_file='b'), True),
        (dict(schedule__max_iters=9, forgetting__seed=4), True),
        (dict(val_dataloader__batch_size=9), True),
        (dict(val_dataloader__dataset__ann_file='tune.json'), False),
        (dict(forgetting__steps=[['cat'], ['dog']]), False),
        (dict(forgetting__learn=[['cow']]), False),
        (dict(forgetting__pretrained='other.pth'), False),
    ],
)
@pytest.mark.parametrize('missing', [[], 'rest'])
def test_what_runs_side_by_side_share(cfg, missing, settings, is_same):
    cfg.forgetting.missing = missing
    one, other = map(run_identity, (cfg, changed(cfg, **settings)))
    assert (subject_identity(one) == subject_identity(other)) is is_same


@pytest.mark.parametrize('file', ['val.json', 'pretrained.pth', 'train.json'])
def test_files_that_runs_side_by_side_share(cfg, tmp_path, file):
    before = subject_identity(run_identity(cfg))
    (tmp_path / file).write_text('something else')
    after = subject_identity(run_identity(cfg))
    assert (before == after) is (file == 'train.json')
