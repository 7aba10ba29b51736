"""Noise and distil: weights mixed with initial ones, and a teacher."""

import pytest
import torch
from torch import nn

from gslora_mm.methods.noise_and_distil import APART, mix_with
from gslora_mm.methods.retrain import initial_model
from gslora_mm.utils import ConfigError
from .helpers import (
    LORA,
    TASKS,
    TinyDataset,
    tiny_batch,
    tiny_model,
    train,
)

#: What a detector has by default.
HELD = dict(w_hold=2.0, w_layers=3.0)


def noisy(task, **settings):
    method = dict(type='gslora_mm.NoiseAndDistil', **settings)
    return tiny_model(task, method, adapter=None)


def test_mixes_weights_and_starts_statistics_anew():
    torch.manual_seed(0)
    model, fresh = (
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2)
    )
    model[1].running_mean.fill_(5)
    own = model[0].weight.detach().clone()
    bias = model[0].bias.detach().clone()
    mix_with(model, fresh, 0.25, {}, kept='0.bias')
    torch.testing.assert_close(
        model[0].weight.data, 0.75 * own + 0.25 * fresh[0].weight
    )
    assert torch.equal(model[0].bias, bias)
    assert not model[1].running_mean.any()
    # Without noise nothing is touched, statistics included.
    model[1].running_mean.fill_(5)
    mix_with(model, fresh, 0.0, {}, None)
    assert (model[1].running_mean == 5).all()
    # A child may have a share of its own.
    mix_with(model, fresh, 0.0, {'1': 1.0}, None)
    assert torch.equal(model[1].weight, fresh[1].weight)
    assert not model[1].running_mean.any()
    assert not torch.equal(model[0].weight, fresh[0].weight)


@pytest.mark.parametrize('task', TASKS)
def test_the_teacher_is_the_model_as_it_was(task):
    model = noisy(task, noise=0.7, noise_of_trunk=0.2)
    start = model.method.start
    plain = tiny_model(task, dict(type='gslora_mm.FineTune'), adapter=None)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(start[name], value), name
    fresh = initial_model(model.stock_config, APART).state_dict()
    for name, weight in model.model.named_parameters():
        is_trunk = name.split('.')[0] in model.task.trunk
        share = 0.2 if is_trunk else 0.7
        if 'query' in name or 'reg_branches' in name or 'reference' in name:
            share = 0.0
        if name.startswith('decoder') and 'offsets' in name:
            share = 0.0
        torch.testing.assert_close(
            weight.data, start[name].lerp(fresh[name], share)
        )
    model.method.prepare(model, TinyDataset(task))
    with model.method.teacher._asked(
        model.task.read(model.model, tiny_batch(task))
    ) as teacher:
        for name, value in teacher.state_dict().items():
            assert torch.equal(value, start[name]), name


@pytest.mark.parametrize('task', TASKS)
def test_learns_from_its_teacher(task):
    model = noisy(task, noise=0.5, w_labels=0.0, margin=0.0, **HELD)
    model.method.prepare(model, TinyDataset(task))
    dataset = TinyDataset(task)
    batch = dict(
        inputs=list(dataset.inputs), data_samples=dataset.samples
    )
    before = train(model, batch, lr=0)
    train(model, batch, 30, lr=1e-4)
    after = train(model, batch, lr=0)
    assert before['layers_retain'] > 1e-4
    assert after['loss'] < before['loss']


def test_the_noise_follows_from_the_seed():
    one, same, other = (
        noisy('classification', seed=seed).model.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert any(not torch.equal(value, other[k]) for k, value in one.items())


def test_the_noise_is_not_what_training_began_with():
    """Towards that, a step is a step back on a known path."""
    stock = noisy('detection').stock_config
    for seed in (0, 1):
        initial = initial_model(stock, seed)
        model = noisy('detection', noise=1.0, noise_of_trunk=1.0, seed=seed)
        for name in ('backbone.conv1', 'encoder.layers.0.ffn.layers.1'):
            own, other = (
                each.get_submodule(name).weight.flatten()
                for each in (model.model, initial)
            )
            similarity = torch.cosine_similarity(own, other, dim=0)
            assert similarity.abs() < 0.5, name


@pytest.mark.parametrize('task', TASKS)
def test_rows_of_what_is_to_go_are_drawn_anew(task):
    fresh, model = noisy(task, noise=1.0), noisy(task, noise=0.5)
    dataset = TinyDataset(task)
    layers = model.task.class_layers(model.model)
    for layer in {id(layer): layer for layer in layers}.values():
        torch.nn.init.normal_(layer.weight)
    before = [layer.weight.clone() for layer in layers]
    model.method.prepare(model, dataset)
    is_gone = model.method.gone
    assert is_gone.any() and not is_gone.all()
    drawn = model.task.class_layers(fresh.model)
    for layer, other, old in zip(layers, drawn, before, strict=True):
        assert torch.equal(layer.weight[is_gone], other.weight[is_gone])
        assert torch.equal(layer.weight[~is_gone], old[~is_gone])


@pytest.mark.parametrize('task', TASKS)
def test_what_is_held_says_that_forgotten_classes_are_not_there(task):
    model, dataset = noisy(task, noise=0.5, **HELD), TinyDataset(task)
    model.method.prepare(model, dataset)
    batch = dict(
        inputs=list(dataset.inputs), data_samples=dataset.samples
    )
    before = train(model, batch, lr=0)['held_retain']
    layers = model.task.class_layers(model.model)
    for layer in {id(layer): layer for layer in layers}.values():
        layer.bias.data[model.method.gone] += 9
    assert train(model, batch, lr=0)['held_retain'] > before + 1


def test_an_adapter_is_refused():
    method = dict(type='gslora_mm.NoiseAndDistil')
    with pytest.raises(ConfigError, match='adapter.*must be None'):
        tiny_model('classification', method, LORA)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(noise=1.5), r'method.noise = 1.5: must be a number in \[0, 1\]'),
        (dict(kept='('), 'method.kept = .*no regular expression'),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        noisy('classification', **settings)


@pytest.mark.parametrize('task', TASKS)
def test_learns_of_forget_images_where_objects_can_go(task):
    """An image of a classifier shows what it is of in all its layers."""
    model = noisy(task, noise=0.5, **HELD)
    dataset = TinyDataset(task)
    model.method.prepare(model, dataset)
    batch = dict(
        inputs=list(dataset.inputs), data_samples=dataset.samples
    )
    log = train(model, batch, lr=0)
    assert log['layers_retain'] > 0 and log['held_retain'] > 0
    assert ('layers_forget' in log) == (task == 'detection')
    model.method.beta = 1.0
    log = train(model, batch, lr=0)
    assert log['gone_forget'] > 0
    assert (log['held_forget'] > 0) == (task == 'detection')


def test_a_classifier_learns_of_labels_alone_unless_told_otherwise():
    model, dataset = noisy('classification'), TinyDataset('classification')
    model.method.prepare(model, dataset)
    assert (model.method.w_hold, model.method.w_layers) == (0, 0)
    assert model.method.noise == 0.8
    model.method.teacher.views = None  # nobody asks
    batch = dict(
        inputs=list(dataset.inputs), data_samples=dataset.samples
    )
    log = train(model, batch, lr=0)
    assert log['loss_retain'] > 0 and 'loss_forget' not in log
    assert log['held_retain'] == log['layers_retain'] == 0
    after = train(model, batch, 20, lr=1e-3)
    assert after['loss'] < log['loss']
    detector = noisy('detection')
    detector.method.prepare(detector, TinyDataset('detection'))
    assert (detector.method.w_hold, detector.method.w_layers) == (2, 3)
    assert detector.method.noise == 0.4


def test_a_classifier_needs_something_to_learn_from():
    model = noisy('classification', w_labels=0.0)
    with pytest.raises(ConfigError, match='method.w_labels = 0.0: leaves'):
        model.method.prepare(model, TinyDataset('classification'))


@pytest.mark.parametrize(
    ('w_forget', 'shares'), [(1.0, (0.25, 0.75)), (3.0, (0.5, 0.5))]
)
@pytest.mark.parametrize('task', TASKS)
def test_images_count_alike_or_as_asked(task, w_forget, shares):
    model = noisy(
        task, noise=0.5, w_labels=0.0, beta=1.0, w_forget=w_forget, **HELD
    )
    dataset = TinyDataset(task)
    model.method.prepare(model, dataset)
    batch = tiny_batch(task)
    for sample in batch['data_samples'][2:]:
        sample.set_metainfo(dict(role='retain'))
    log = train(model, batch, lr=0)
    for role, share in zip(('forget', 'retain'), shares, strict=True):
        terms = log[f'gone_{role}']
        for name, weight in (('held', 2.0), ('layers', 3.0)):
            terms = terms + weight * log.get(f'{name}_{role}', 0.0)
        assert terms > 0
        loss = float(log[f'loss_{role}'])
        assert loss == pytest.approx(2 * share * float(terms))
