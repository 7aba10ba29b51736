"""What a config may say at all, before anything is built of it."""

import math

import pytest
from mmengine.config import Config

from gslora_mm.sequence import ForgettingSequence, write_request
from gslora_mm.sequence.resolve import resolve
from gslora_mm.sequence.stock_config import check_entries, stock_config
from gslora_mm.tasks import DetectionTask
from gslora_mm.utils import ConfigError
from gslora_mm.utils.text import shortened


def config(**changes):
    cfg = Config(
        dict(
            model=dict(type='DeformableDETR'),
            train_dataloader=dict(dataset=dict(type='CocoDataset')),
            val_dataloader=dict(dataset=dict(type='CocoDataset')),
            val_evaluator=dict(type='CocoMetric'),
            work_dir='work_dirs/one',
        )
    )
    cfg.merge_from_dict({k.replace('__', '.'): v for k, v in changes.items()})
    return cfg


DICTIONARIES = (
    'model',
    'train_dataloader',
    'forgetting',
    'method',
    'task',
    'schedule',
    'default_hooks',
    'visualizer',
    'randomness',
)


@pytest.mark.parametrize('name', DICTIONARIES)
@pytest.mark.parametrize('value', ['x', -1, True, [1], math.nan])
def test_what_has_to_be_a_dictionary(name, value):
    cfg = config()
    cfg[name] = value
    with pytest.raises(ConfigError, match=f'^{name} = .*must be a dictionary'):
        check_entries(cfg)


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        (dict(val_evaluator=3), 'val_evaluator = 3: must be'),
        (dict(val_evaluator=['CocoMetric']), 'val_evaluator = '),
        (dict(visualizer=dict(vis_backends='x')), 'visualizer.vis_backends ='),
        (dict(default_scope=3), 'default_scope = 3: must be a library'),
        (dict(randomness=dict(seed='3')), "randomness.seed = '3': must be an"),
        (dict(randomness=dict(seed=-1)), 'randomness.seed = -1: must be an'),
        (dict(randomness=dict(seed=True)), 'randomness.seed = True: must be'),
        (
            dict(train_dataloader__num_workers='2'),
            "train_dataloader.num_workers = '2': must be an int >= 0",
        ),
        (
            dict(val_dataloader__batch_size=0),
            'val_dataloader.batch_size = 0: must be an int >= 1',
        ),
    ],
)
def test_bad_entries_are_named(changes, named):
    with pytest.raises(ConfigError, match=f'^{named}'):
        check_entries(config(**changes))
    with pytest.raises(ConfigError, match=f'^{named}'):
        resolve(config(**changes))  # before anything else


@pytest.mark.parametrize('value', [None, 3, ''])
def test_a_sequence_without_a_folder(value):
    cfg = config()
    cfg.work_dir = value
    for function in (ForgettingSequence, resolve):
        with pytest.raises(ConfigError, match='^work_dir = .*must be a fold'):
            function(cfg)
    cfg.pop('work_dir')
    with pytest.raises(ConfigError, match='^work_dir = None: must be a fold'):
        ForgettingSequence(cfg)


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('train_dataloader = dict(batch_size=4)', 'train_dataloader.data'),
        ("train_dataloader = 'x'", "train_dataloader = 'x': must be a dict"),
        ("model = 'vit'", "model = 'vit': must be a dictionary"),
    ],
)
def test_a_request_for_such_a_config(tmp_path, text, named):
    path = tmp_path / 'mine.py'
    path.write_text(f"default_scope = 'mmpretrain'\n{text}\n")
    with pytest.raises(ConfigError, match=f'^{named}'):
        write_request(path, 'a.pth', [['cat']], work_dir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_none_is_no_entry():
    nothing = dict.fromkeys(
        ('default_hooks', 'visualizer', 'randomness', 'env_cfg')
    )
    cfg = config(default_scope=None, **nothing)
    check_entries(cfg)
    stock = stock_config(cfg)
    assert stock['visualizer'] == stock['default_hooks'] == {}


@pytest.mark.parametrize('metric', [None, 3, 'segm', ['segm']])
def test_a_metric_without_boxes(metric):
    evaluator = dict(type='CocoMetric', ann_file='a.json', metric=metric)
    with pytest.raises(ConfigError, match='^val_evaluator.metric = '):
        DetectionTask().evaluator(evaluator, {}, False)


def test_names_that_are_none_can_be_told():
    assert shortened([1, None]) == '1, None'
