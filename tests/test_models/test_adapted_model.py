"""AdaptedModel: a stock model with an adapter, without any task."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gslora_mm.lora import lora_parameters
from gslora_mm.models import AdaptedModel, build_stock_model
from gslora_mm.models.losses import group_sparsity_loss
from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import (
    load_state_dict_strictly,
    save_stock_checkpoint,
)
from tests.classifiers import random_images, randomise, tiny_classifier_config
from tests.detectors import random_batch, tiny_detector_config
from tests.test_lora.helpers import perturb

SCOPES = dict(deformable_detr='mmdet', vit='mmpretrain')
SPARSITY = dict(type='gslora_mm.GroupSparsityLoss', loss_weight=0.5)


def config_of(name, num_classes=4):
    init_default_scope(SCOPES[name])
    if name == 'vit':
        config = tiny_classifier_config(name, num_classes)
        config.pop('train_cfg')  # labels stay whole
        config.data_preprocessor.to_onehot = True
        return config
    return tiny_detector_config(name, num_classes)


def build(name, num_classes=4, seed=0, **settings):
    """As a Runner does it, from a config."""
    torch.manual_seed(seed)
    return MODELS.build(
        dict(
            type='gslora_mm.AdaptedModel',
            model=config_of(name, num_classes),
            adapter=dict(rank=2),
            **settings,
        )
    )


def stock_of(name, num_classes=4, seed=7):
    torch.manual_seed(seed)
    return randomise(build_stock_model(config_of(name, num_classes)), seed)


def batch_of(name):
    return random_images() if name == 'vit' else random_batch()


@torch.no_grad()
def predictions(model, name):
    """Scores, and boxes of a detector."""
    model.eval()
    predicted = model.test_step(batch_of(name))
    if name == 'vit':
        return [sample.pred_score for sample in predicted]
    found = [sample.pred_instances for sample in predicted]
    return [x for each in found for x in (each.scores, each.bboxes)]


def assert_same(one, other, atol=1e-5):
    assert len(one) == len(other) > 1
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


@pytest.fixture(params=SCOPES)
def name(request):
    return request.param


def test_training_moves_the_adapter_only(name):
    model = build(name, loss_structure=SPARSITY)
    randomise(model.model).train()
    before = copy.deepcopy(model.state_dict())
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert len(parameters) == len(lora_parameters(model))
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    data = model.data_preprocessor(batch_of(name), True)
    losses = model(**data, mode='loss')
    assert losses['loss_structure'].item() == pytest.approx(
        0.5 * group_sparsity_loss(model.groups).item()
    )
    model.parse_losses(losses)[0].backward()
    optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != ('lora_' in key), key


def test_norms_that_are_not_trained_stay_as_they_are():
    config = config_of('deformable_detr')
    config.backbone.norm_cfg.requires_grad = True
    config.backbone.norm_eval = False
    model = AdaptedModel(
        config, adapter=dict(rank=2), also_train=['backbone.layer4']
    ).train()
    norms = {
        name: module
        for name, module in model.model.named_modules()
        if isinstance(module, _BatchNorm)
    }
    assert len(norms) > 10
    for name, module in norms.items():
        assert module.training == name.startswith('backbone.layer4'), name


def test_the_stock_checkpoint_computes_the_same(name):
    model = build(name)
    perturb(randomise(model.model), std=0.1)
    adapted = predictions(model, name)
    stock = stock_of(name)
    other = predictions(stock, name)
    assert not all(map(torch.allclose, adapted, other))
    stock.load_state_dict(model.stock_state_dict(), strict=True)
    assert_same(predictions(stock, name), adapted)


def load_strictly(model, state):
    model.load_state_dict(state, strict=True)


@pytest.mark.parametrize(
    'load', [load_strictly, load_state_dict, load_state_dict_strictly]
)
def test_a_stock_checkpoint_loads(name, load, caplog):
    """In torch's way, the Runner's (load_from) and that of tools/test.py."""
    stock, model = stock_of(name), build(name)
    adapter = [p.clone() for p in lora_parameters(model)]
    load(model, stock.state_dict())
    assert not caplog.records  # about keys
    assert_same(predictions(model, name), predictions(stock, name))
    for one, other in zip(lora_parameters(model), adapter, strict=True):
        assert torch.equal(one, other)
    # and its own, with the adapter
    twin = build(name, seed=5)
    load(twin, perturb(model).state_dict())
    assert_same(predictions(twin, name), predictions(model, name))


def test_a_stock_checkpoint_loads_into_a_model_within_a_model():
    """Such as the average that MMEngine's EMAHook keeps."""
    stock, holder = stock_of('vit'), nn.Sequential(build('vit'))
    state = {f'0.{key}': v for key, v in stock.state_dict().items()}
    holder.load_state_dict(state, strict=True)
    twin = copy.deepcopy(holder)
    twin.load_state_dict(state, strict=True)
    for model in (holder[0], twin[0]):
        assert_same(predictions(model, 'vit'), predictions(stock, 'vit'))


def test_a_checkpoint_that_fits_nothing_is_refused(name):
    state = {'other.key': torch.zeros(1)}
    with pytest.raises(ConfigError, match='fits neither.*first .*other.key'):
        load_state_dict(build(name), state)
    with pytest.raises(ConfigError, match='^CHECKPOINT: .*first .*other.key'):
        load_state_dict_strictly(build(name), state, key='CHECKPOINT')


def test_a_checkpoint_with_another_adapter_is_refused():
    model = build('vit')
    other = AdaptedModel(config_of('vit'), adapter=dict(rank=3))
    with pytest.raises(ConfigError, match='adapter of the checkpoint.*rob'):
        load_state_dict(model, other.state_dict())
    other = AdaptedModel(
        config_of('vit'), adapter=dict(rank=2, target='attention')
    )
    with pytest.raises(ConfigError, match='adapter of the checkpoint.*rob'):
        load_state_dict(model, other.state_dict())


def test_frozen_weights_must_come_with_the_checkpoint(caplog):
    """A new head is trained, or it would stay random."""
    stock = stock_of('vit', num_classes=6)
    for change in ('shape', 'missing'):
        state = stock.state_dict()
        if change == 'missing':
            del state['head.layers.head.weight']
        with pytest.raises(ConfigError, match='head.*model.also_train'):
            load_state_dict(build('vit'), state)
        model = build('vit', also_train='head')
        load_state_dict(model, state)
        assert torch.equal(
            model.model.backbone.cls_token, stock.backbone.cls_token
        )
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if 'lora_' not in n} == {
        f'model.head.layers.{layer}.{kind}'
        for layer in ('pre_logits', 'head')
        for kind in ('weight', 'bias')
    }


def test_what_a_projection_holds_can_be_trained_too():
    """Its weight is a property, and no parameter by that name."""
    model = AdaptedModel(
        config_of('vit'),
        adapter=dict(rank=2, target='all'),
        also_train=('backbone.layers.1',),
    )
    trained = {
        name
        for name, parameter in model.model.named_parameters()
        if parameter.requires_grad and 'lora_' not in name
    }
    block = [n for n, _ in model.model.backbone.layers[1].named_parameters()]
    assert trained == {
        f'backbone.layers.1.{name}' for name in block if 'lora_' not in name
    }
    assert 'backbone.layers.1.attn.proj.weight' in trained


@pytest.mark.parametrize('load', [load_strictly, load_state_dict])
def test_a_checkpoint_with_another_alpha_is_refused(load):
    """Its matrices have the same shapes and do another thing."""
    other = AdaptedModel(config_of('vit'), adapter=dict(rank=2, alpha=4))
    saved = other.state_dict()
    with pytest.raises(ConfigError, match='alpha is .1.0. in the model, 4 '):
        load(build('vit'), saved)
    load(AdaptedModel(config_of('vit'), dict(rank=2, alpha=4)), saved)
    # Earlier versions did not record it.
    load(build('vit'), dict(saved))


def test_records_the_adapter_of_the_model_not_of_what_was_resumed():
    model = AdaptedModel(config_of('vit'), adapter=dict(rank=2, alpha=4))
    hub = MessageHub.get_instance('resumed')
    model.state_dict()
    assert hub.get_info('adapter', None) is None  # not a run of its own
    model.init_weights()
    hub.update_info('adapter', dict(rank=2, alpha=1.0))  # as a resume does
    model.state_dict()
    assert hub.get_info('adapter')['alpha'] == 4


def test_frozen_weights_must_come_with_a_checkpoint_of_its_own_too():
    saved = build('vit').state_dict()
    trained = {k: v for k, v in saved.items() if 'lora_' in k}
    with pytest.raises(ConfigError, match='^the checkpoint does not have'):
        load_state_dict(build('vit'), trained)
    # What is missing of an adapter is no fault of a loader that is not
    # strict.
    frozen = {k: v for k, v in saved.items() if 'lora_' not in k}
    build('vit').load_state_dict(frozen, strict=False)
    with pytest.raises(RuntimeError, match='Missing key.*lora_A'):
        build('vit').load_state_dict(frozen, strict=True)


def test_statistics_of_frozen_norms_must_come_with_the_checkpoint():
    name = 'backbone.layer4.0.bn1'
    state = stock_of('deformable_detr').state_dict()
    del state[f'{name}.num_batches_tracked']
    load_state_dict(build('deformable_detr'), state)
    del state[f'{name}.running_var']
    with pytest.raises(ConfigError, match=f"1 of the.*'{name}.running_var'"):
        load_state_dict(build('deformable_detr'), state)


def quiet_init(model):
    logging.disable(logging.INFO)  # a line per parameter
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)


def test_init_weights_is_that_of_the_stock_model(name):
    model = build(name)
    stock = build_stock_model(config_of(name))
    stock.load_state_dict(model.stock_state_dict())
    perturb(model)
    adapter = [p.clone() for p in lora_parameters(model)]
    for each in (model, stock):
        torch.manual_seed(3)
        quiet_init(each)
    for one, other in zip(lora_parameters(model), adapter, strict=True):
        assert torch.equal(one, other)
    state = model.model.state_dict()
    for key, value in stock.state_dict().items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize('way', ['checkpoint', 'init_cfg'])
def test_init_weights_leaves_a_checkpoint_alone(name, way, tmp_path):
    """The DETRs' own init_weights goes over what init_cfg has loaded."""
    stock, path = stock_of(name), str(tmp_path / 'stock.pth')
    save_stock_checkpoint(stock, {}, path)
    if way == 'checkpoint':
        model = build(name, checkpoint=path)
    else:
        config = config_of(name)
        config.init_cfg = dict(type='Pretrained', checkpoint=path)
        model = AdaptedModel(config, adapter=dict(rank=2))
    quiet_init(model)
    state = model.model.state_dict()
    for key, value in stock.state_dict().items():
        assert torch.equal(state[key], value), key


def test_says_what_is_trained_and_records_the_adapter():
    model = build('vit', also_train='head')
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_instance('what_is_trained')
    logger.addHandler(handler)
    hub = MessageHub.get_instance('what_is_trained')
    model.init_weights()
    # 2 blocks of 2 layers, rank 2 on 32 and 64 features; 4 classes of 48
    total = sum(p.numel() for p in model.parameters())
    trained = 2 * 2 * 2 * (32 + 64) + 48 * (32 + 1) + 4 * (48 + 1)
    assert lines[-1] == (
        f'adapter: 2 groups; {trained:,} of {total:,} parameters are trained '
        f'({trained / total:.2%})'
    )
    assert hub.get_info('adapter') == dict(
        rank=2, alpha=1.0, dropout=0.0, target='ffn'
    )


def test_without_an_adapter_everything_is_trained():
    model = AdaptedModel(config_of('vit'))
    assert not model.groups and all(
        p.requires_grad for p in model.parameters()
    )
    model.load_state_dict(stock_of('vit').state_dict(), strict=True)


def resnet():
    init_default_scope('mmpretrain')
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8),
        head=dict(type='LinearClsHead', num_classes=4, in_channels=64),
    )


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(adapter=8), r'^model.adapter = 8: .*dict\(rank=8\)'),
        (dict(adapter=dict(rank=0)), '^model.adapter.rank = 0: '),
        (dict(adapter=dict(rang=8)), "model.adapter = .*'rang'"),
        (dict(adapter=dict(group_by='x')), "^model.adapter.group_by = 'x'"),
        (dict(adapter=dict(target='x')), "^model.adapter.target = 'x': no "),
        (dict(loss_structure=SPARSITY, adapter=None), '^model.loss_structure'),
        (
            dict(loss_structure={**SPARSITY, 'loss_weight': -1}),
            '^model.loss_structure.loss_weight = -1: must be',
        ),
        (
            dict(loss_structure=dict(type='gslora_mm.Sparsity')),
            '^model.loss_structure: cannot be used: KeyError.*Sparsity',
        ),
        (
            dict(loss_structure=dict(SPARSITY, weight=1)),
            "^model.loss_structure: cannot be used: TypeError.*'weight'",
        ),
        (dict(also_train=['haed']), "^model.also_train.*'head'"),
        (dict(head=dict()), r'^model: .*head.*_delete_=True'),
        (dict(model='resnet'), "^model.adapter.target = 'ffn': no linear"),
        (dict(model='twice'), "^model.model.type = 'gslora.*already"),
    ],
)
def test_mistakes_are_named(settings, message):
    model = config_of('vit')
    if settings.get('model') == 'resnet':
        settings = dict(model=resnet())
    elif settings.get('model') == 'twice':
        adapted = dict(adapter=dict(rank=2), model=model)
        settings = dict(model=dict(type='gslora_mm.AdaptedModel', **adapted))
    settings = dict(dict(model=model, adapter=dict(rank=2)), **settings)
    with pytest.raises(ConfigError, match=message):
        MODELS.build(dict(type='gslora_mm.AdaptedModel', **settings))
