"""What is frozen is computed once, and nothing else changes."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from gslora_mm.datasets.remembered import KEY
from gslora_mm.training import BFloat16OptimWrapper, ForgettingModel
from gslora_mm.training.trunk_cache import TrunkCache
from gslora_mm.utils.tensor_store import TensorStore
from tests.classifiers import tiny_classifier_config
from tests.detectors import (
    random_batch,
    tiny_detector_config,
    with_level_embed,
)

#: Of each frozen part, the adapter that leaves it so.
TRUNK = dict(rank=2)
ENCODER = dict(rank=2, within='decoder')


def make_model(name, adapter, method='GSLoRA', **settings):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = ForgettingModel(
        tiny_detector_config(name, **settings),
        dict(type='gslora_mm.DetectionTask'),
        dict(type=f'gslora_mm.{method}'),
        adapter,
    )
    if hasattr(model.model, 'level_embed'):
        with_level_embed(model)
    for parameter in model.model.parameters():
        if parameter.requires_grad:  # an adapter that does something
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def make_batch(shape=(64, 64), key=0):
    batch = random_batch(num_images=4)
    batch['inputs'][1] = batch['inputs'][1][:, : shape[0], : shape[1]]
    batch['data_samples'][1].set_metainfo(dict(img_shape=shape))
    for i, sample in enumerate(batch['data_samples']):
        role = ('forget', 'retain')[i % 2]
        sample.set_metainfo({'role': role, KEY: (key + i, 0)})
    return batch


def losses(model, batch, wrapper=OptimWrapper):
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.0
    )
    return model.train_step(copy.deepcopy(batch), wrapper(optimizer))


def counted(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize('adapter', [TRUNK, ENCODER])
@pytest.mark.parametrize(
    'name',
    [
        'deformable_detr',
        'deformable_detr_two_stage',
        'dino',
        'ddq_detr',
        'detr',
    ],
)
def test_losses_are_those_without_it(name, adapter):
    model, batch = make_model(name, adapter), make_batch((50, 60))
    expected = losses(model, batch)
    model.trunk_cache = TrunkCache(model, TensorStore(10**8))
    encoder = model.model.encoder
    runs = counted(model.model.backbone), counted(encoder.layers[0])
    for _ in range(3):
        found = losses(model, batch)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if adapter is TRUNK:
                assert torch.equal(found[key], value), key
            else:  # the encoder has seen the halves together
                torch.testing.assert_close(
                    found[key], value, rtol=1e-5, atol=1e-5
                )
    assert len(runs[0]) == 1
    assert len(runs[1]) == (6 if adapter is TRUNK else 1)


def test_nothing_before_the_first_adapter_has_a_gradient_or_dropout():
    model = make_model('deformable_detr', ENCODER, dropout=0.5)
    inside = [*model.model.backbone.modules(), *model.model.encoder.modules()]
    assert not any(module.training for module in inside)
    assert model.model.decoder.training
    data = model.data_preprocessor(make_batch(), True)
    found = model.task.extract_frozen(model.model, **data)
    assert not any(tensor.requires_grad for tensor in found)
    adapted = make_model('deformable_detr', TRUNK, dropout=0.5)
    assert adapted.model.encoder.training


def test_an_image_does_not_depend_on_its_batch():
    """Else a resumed run, which fills it anew, would have other numbers."""
    model = make_model('deformable_detr', TRUNK)
    first, second = make_batch(), make_batch(key=2)
    second['inputs'] = first['inputs'][2:] + second['inputs'][2:]
    cache = TrunkCache(model, TensorStore(10**8))
    for batch in (first, second):
        data = model.data_preprocessor(batch, True)
        found = cache.extract(**data)
        computed = model.task.extract(model.model, data['inputs'])
        assert all(map(torch.equal, found, computed))


def test_padding_is_part_of_what_is_kept():
    model, cached = make_model('deformable_detr', TRUNK), make_batch()
    model.trunk_cache = TrunkCache(model, TensorStore(10**8))
    losses(model, cached)
    wider = make_batch()
    wider['inputs'][3] = torch.nn.functional.pad(
        wider['inputs'][3], (0, 32)
    )
    for sample in wider['data_samples'][3:]:
        sample.set_metainfo({'img_shape': (64, 96), KEY: (9, 0)})
    found = losses(model, wider)
    model.trunk_cache = None
    assert torch.equal(found['loss'], losses(model, wider)['loss'])


def test_without_room_it_computes_every_time():
    model, batch = make_model('deformable_detr', TRUNK), make_batch()
    expected = losses(model, batch)
    model.trunk_cache = TrunkCache(model, TensorStore(1_000))
    runs = counted(model.model.backbone)
    for _ in range(2):
        assert torch.equal(losses(model, batch)['loss'], expected['loss'])
    assert len(runs) == 2


def test_mixed_precision_keeps_what_it_computes():
    def wrapper(optimizer):
        return BFloat16OptimWrapper(optimizer=optimizer)

    model, batch = make_model('deformable_detr', TRUNK), make_batch()
    expected = losses(model, batch, wrapper)
    store = TensorStore(10**8)
    model.trunk_cache = TrunkCache(model, store)
    for _ in range(2):
        found = losses(model, batch, wrapper)
        assert torch.equal(found['loss'], expected['loss'])


@pytest.mark.parametrize('method', ['LwF', 'CounterfactualDistillation'])
@pytest.mark.parametrize('name', ['deformable_detr', 'dino', 'ddq_detr'])
def test_teachers_and_layers_are_those_without_it(name, method):
    """What reads images, and layers of a frozen encoder, still can."""
    model, batch = make_model(name, ENCODER), make_batch((50, 60))
    data = model.data_preprocessor(batch, True)
    index = torch.tensor([0, 2])
    is_gone = torch.arange(20) % 2 == 0

    def read(trunk_output):
        half = model.task.half(
            model.model, data['inputs'], trunk_output, data['data_samples'],
            index, 'forget',
        )  # fmt: skip
        model.eval()
        with torch.no_grad():
            if method == 'LwF':
                return [*half.seen_by(model.model), half.features]
            view = half.view_of(model.model)
            found = [*half.layers.values(), *view.layers.values()]
            # The neck is frozen, and only looked at.
            assert {*half.layers} == {*view.layers} - {'neck'}
            painted = half.without_objects(is_gone).view_of(model.model)
            return [*found, *painted.layers.values(), *view.outputs]

    maps = model.task.extract(model.model, data['inputs'])
    encoded = model.task.extract_frozen(model.model, **data)
    for found, expected in zip(read(encoded), read(maps), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def make_classifier(within):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = tiny_classifier_config('vit')
    return ForgettingModel(
        config,
        dict(type='gslora_mm.ClassificationTask'),
        dict(type='gslora_mm.GSLoRA'),
        dict(rank=2, within=within),
    ).train()


def test_the_first_blocks_of_a_vit_are_kept():
    from mmpretrain.structures import DataSample

    model = make_classifier('backbone.layers.1')
    inputs = torch.rand(4, 3, 32, 32)
    samples = [
        DataSample(metainfo={KEY: (i, 0)}).set_gt_label(i) for i in range(4)
    ]
    index = torch.tensor([1, 3])

    def read(trunk_output):
        half = model.task.half(
            model.model, inputs, trunk_output, samples, index, 'retain'
        )
        view = half.view_of(model.model)
        return [
            half.loss, half.logits, *half.seen_by(model.model),
            *half.layers.values(), *view.layers.values(),
        ]  # fmt: skip

    expected = read(model.task.extract(model.model, inputs))
    cache = TrunkCache(model, TensorStore(10**7))
    runs = counted(model.model.backbone.layers[0].attn)
    for _ in range(2):
        tokens = cache.extract(inputs, samples)
    assert len(runs) == 1 and tokens.shape[0] == 4
    for found, value in zip(read(tokens), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5)
    assert not model.model.backbone.layers[0].training


@pytest.mark.parametrize('within', ['backbone', 'backbone.layers.1'])
def test_a_vit_that_keeps_nothing_is_trained_on_images(within):
    """As where its training pipeline is random."""
    from mmpretrain.structures import DataSample

    model = make_classifier(within)
    samples = [
        DataSample(metainfo=dict(role=role)).set_gt_label(i)
        for i, role in enumerate(['forget', 'retain'])
    ]
    inputs = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    halves = []
    model.method.losses = lambda **found: halves.extend(found.values()) or ()
    losses(model, dict(inputs=list(inputs), data_samples=samples))
    for half in halves:
        assert half.tokens is None
        assert len(half.layers) == 3  # two blocks and the embedding


def test_a_vit_that_is_adapted_from_its_first_block_keeps_nothing():
    assert make_classifier('backbone').frozen_modules == []


def test_an_image_that_is_there_twice_is_kept_once():
    model, batch = make_model('deformable_detr', TRUNK), make_batch()
    for i, sample in enumerate(batch['data_samples']):
        sample.set_metainfo({KEY: (i // 2, 0)})
    model.trunk_cache = TrunkCache(model, TensorStore(10**8))
    losses(model, batch)
    kept = model.trunk_cache._store
    assert len(kept._kept) == 2
    of_all = [kept.get(key) for key in kept._kept]
    assert kept.size == sum(each.nbytes for row in of_all for each in row)
