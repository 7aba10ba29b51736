"""Retrain: every step starts from the same weights."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from gslora_mm.methods import Retrain
from gslora_mm.registry import MODELS
from gslora_mm.training import ForgettingModel
from gslora_mm.utils import ConfigError
from tests.classifiers import randomise
from .helpers import (
    LORA,
    TASKS,
    Half,
    Unread,
    losses_of,
    stock_config,
    tiny_batch,
    tiny_model,
    train,
)

RETRAIN = dict(type='gslora_mm.Retrain')


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_loss_by_hand():
    method = Retrain()
    retain = Half(0.4, 0.2)
    losses = losses_of(method, Unread(), retain)
    assert losses.keys() == {'loss_retain'}
    assert losses['loss_retain'].item() == pytest.approx(0.6, 1e-6)
    assert method.needs == ('retain',)


@pytest.mark.parametrize('task', TASKS)
def test_every_step_starts_from_the_same_weights(task):
    """Fault 5 of the public code: from where the step before ended."""
    steps = [
        tiny_model(task, RETRAIN, adapter=None, seed=seed).model.state_dict()
        for seed in (1, 2)
    ]
    assert same(*steps)
    plain = dict(type='gslora_mm.FineTune')
    checkpoint = tiny_model(task, plain, adapter=None, seed=1).model
    for name, parameter in checkpoint.named_parameters():
        if parameter.dim() > 1 and parameter.any():  # a random matrix
            assert not torch.equal(parameter, steps[0][name]), name


def test_the_weights_follow_from_the_seed():
    one, other = (
        tiny_model('detection', dict(RETRAIN, seed=seed), adapter=None)
        for seed in (0, 1)
    )
    assert not same(one.model.state_dict(), other.model.state_dict())


def test_statistics_of_batch_norms_start_anew():
    model = tiny_model('detection', RETRAIN, adapter=None)
    norm = model.model.backbone.bn1
    for buffer in norm.buffers():
        buffer.fill_(3)
    model.method.setup(model)
    assert not norm.running_mean.any() and (norm.running_var == 1).all()
    assert norm.num_batches_tracked == 0


def test_the_initialisation_is_that_of_the_stock_model():
    """Not only that of its layers: DETRs start with few detections."""
    model = tiny_model('detection', RETRAIN, adapter=None).model
    bias = model.bbox_head.cls_branches[0].bias
    assert bias.tolist() == pytest.approx([-4.59512] * 4)


def test_nothing_else_is_moved():
    model = tiny_model('detection', RETRAIN, adapter=None)
    config = copy.deepcopy(model.stock_config)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    model.method.setup(model)
    assert torch.equal(torch.rand(3), expected)
    assert model.stock_config == config


def test_no_line_a_parameter_is_logged():
    records, handler = [], logging.Handler(logging.INFO)
    handler.emit = records.append
    model = tiny_model('classification', RETRAIN, adapter=None)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    model.method.setup(model)
    logger.removeHandler(handler)
    assert not records


def test_initial_weights_from_a_file(tmp_path):
    config = stock_config('classification')
    stock = randomise(MODELS.build(config), seed=8)
    path = str(tmp_path / 'initial.pth')
    torch.save(stock.state_dict(), path)
    method = dict(RETRAIN, initial=path)
    model = tiny_model('classification', method, adapter=None)
    assert same(stock.state_dict(), model.model.state_dict())


def test_a_file_that_does_not_fit_is_named(tmp_path):
    path = str(tmp_path / 'initial.pth')
    torch.save(dict(weight=torch.zeros(3)), path)
    method = dict(RETRAIN, initial=path)
    with pytest.raises(ConfigError, match='method.initial.*does not fit'):
        tiny_model('classification', method, adapter=None)


def test_refuses_an_adapter():
    with pytest.raises(ConfigError, match='^adapter: must be None'):
        tiny_model('classification', RETRAIN, adapter=LORA)


@pytest.mark.parametrize('task', TASKS)
def test_trains_on_retain_images_alone(task):
    model = tiny_model(task, RETRAIN, adapter=None)
    before = copy.deepcopy(model.model.state_dict())
    log = train(model, tiny_batch(task, role='retain'), 2)
    assert log['loss'].isfinite() and log.keys() == {'loss', 'loss_retain'}
    assert not same(before, model.model.state_dict())


@pytest.mark.parametrize('task', TASKS)
def test_a_resumed_step_goes_on_where_it_was(task):
    first = tiny_model(task, RETRAIN, adapter=None, seed=1)
    train(first, tiny_batch(task, role='retain'), 2)
    second = tiny_model(task, RETRAIN, adapter=None, seed=1)
    assert not same(first.state_dict(), second.state_dict())
    second.load_resume_state_dict(first.resume_state_dict())
    assert same(first.state_dict(), second.state_dict())


def test_a_resumed_step_has_its_statistics():
    """Those of batch norms, which no optimizer knows."""
    init_default_scope('mmpretrain')
    config = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=4, in_channels=64),
        data_preprocessor=dict(mean=[0] * 3, std=[255] * 3),
    )
    first, second = (
        ForgettingModel(
            config, dict(type='gslora_mm.ClassificationTask'), RETRAIN
        ).train()
        for _ in range(2)
    )
    train(first, tiny_batch('classification', role='retain'))
    second.load_resume_state_dict(first.resume_state_dict())
    assert first.model.backbone.bn1.running_mean.any()
    assert same(first.state_dict(), second.state_dict())


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(seed=-1), 'method.seed = -1'),
        (dict(seed=0.5), 'method.seed = 0.5'),
        (dict(initial=3), 'method.initial = 3'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        Retrain(**settings)
    assert named in str(error.value)
