import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from gslora_mm.lora import lora_groups, lora_parameters, merge_lora
from gslora_mm.tasks import ClassificationTask
from gslora_mm.training import ForgettingModel
from gslora_mm.registry import MODELS, TASKS
from gslora_mm.utils import ConfigError
from tests.classifiers import (
    CLASSIFIERS,
    SIZES,
    build_classifier,
    random_images,
    randomise,
    tiny_classifier_config,
)

ARC_FACE = dict(
    type='ArcFaceClsHead',
    num_classes=4,
    in_channels=32,
    loss=dict(type='CrossEntropyLoss'),
)


def halves_of(task, model, size=32):
    """Forget and retain half of a random batch, and the batch."""
    batch = model.data_preprocessor(random_images(size=size), training=True)
    inputs, samples = batch['inputs'], batch['data_samples']
    features = task.extract(model, inputs)
    halves = {
        role: task.half(model, inputs, features, samples, part, role)
        for role, part in zip(
            ('forget', 'retain'), torch.arange(4).chunk(2), strict=True
        )
    }
    return halves, inputs, samples


def arc_face(num_subcenters=1):
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    config = tiny_classifier_config('deit')
    config.head = dict(ARC_FACE, num_subcenters=num_subcenters)
    config.pop('train_cfg')
    return randomise(MODELS.build(config))


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_a_half_is_an_ordinary_batch(name):
    model = build_classifier(name).train()
    task = ClassificationTask()
    task.check_model(model)
    halves, inputs, samples = halves_of(task, model, SIZES[name])
    parts = dict(forget=slice(0, 2), retain=slice(2, 4))
    for role, part in parts.items():
        half = halves[role]
        expected = model.loss(inputs[part], samples[part])['loss']
        torch.testing.assert_close(half.loss, expected)
        torch.testing.assert_close(half.loss_cls, expected)
        assert half.loss_rest == 0
        assert half.labels.tolist() == [int(s.gt_label) for s in samples[part]]
        torch.testing.assert_close(half.logits, model(inputs[part]))
        # The features are what the class layer sees.
        layer = getattr(model.head, 'fc', None) or model.head.layers.head
        logits = F.linear(half.features, task.class_weights(model), layer.bias)
        torch.testing.assert_close(half.logits, logits)
        assert half.features.requires_grad


def forgetting_model(name, **kwargs):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = tiny_classifier_config(name)
    return ForgettingModel(
        model.to_dict(),
        dict(type='gslora_mm.ClassificationTask'),
        dict(type='gslora_mm.GSLoRA', beta=0.3, bound=100.0),
        dict(rank=2),
        **kwargs,
    )


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_inject_train_merge_and_load_as_stock(name):
    model = forgetting_model(name)
    randomise(model.model)
    model.train()
    assert len(lora_groups(model.model)) == (4 if name == 'swin' else 2)
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    optim_wrapper = OptimWrapper(
        torch.optim.AdamW(lora_parameters(model.model), lr=0.05)
    )
    batch = random_images(size=SIZES[name])
    for i, sample in enumerate(batch['data_samples']):
        role = 'forget' if i % 2 else 'retain'
        sample.set_metainfo(dict(role=role))
    # Twice: in the first step only B can move.
    for _ in range(2):
        log = model.train_step(copy.deepcopy(batch), optim_wrapper)
    assert log['loss'].isfinite()
    assert all('lora_' in key for key in model.resume_state_dict())
    for key, value in model.model.state_dict().items():
        moved = not torch.equal(value, before[key])
        assert moved == ('lora_' in key), key

    model.eval()
    with torch.no_grad():
        adapted = model.test_step(copy.deepcopy(batch))
    merge_lora(model.model)
    stock = build_classifier(name, seed=1)
    stock.load_state_dict(model.model.state_dict(), strict=True)
    stock.eval()
    with torch.no_grad():
        merged = stock.test_step(copy.deepcopy(batch))
    assert any(
        not torch.equal(before[key], value)
        for key, value in stock.state_dict().items()
    )
    for one, other in zip(adapted, merged, strict=True):
        torch.testing.assert_close(
            one.pred_score, other.pred_score, atol=1e-4, rtol=1e-4
        )


def test_a_half_is_computed_once_and_only_if_asked(monkeypatch):
    model = build_classifier('deit')
    extract_feat, calls = model.extract_feat, []

    def count(inputs):
        calls.append(len(inputs))
        return extract_feat(inputs)

    monkeypatch.setattr(model, 'extract_feat', count)
    halves, *_ = halves_of(ClassificationTask(), model)
    assert not calls
    half = halves['forget']
    (half.loss + half.features.sum() + half.logits.sum()).backward()
    assert len(half.labels) == 2 and calls == [2]


def test_only_the_class_token_goes_through_the_last_block():
    model = build_classifier('deit').train()
    half = halves_of(ClassificationTask(), model)[0]['forget']
    shapes = []
    for layer in model.backbone.layers:
        layer.ffn.register_forward_hook(
            lambda _, args, out: shapes.append(out.shape[1])
        )
    half.loss.backward()
    assert shapes == [17, 1]
    found = {n: p.grad.clone() for n, p in model.named_parameters()}
    # Nothing stays behind.
    assert not model.backbone.layers[-1].ffn._forward_pre_hooks
    attend = model.backbone.layers[-1].attn.scaled_dot_product_attention
    assert attend is F.scaled_dot_product_attention
    model.zero_grad()
    # As it is computed anywhere else.
    halves, inputs, samples = halves_of(ClassificationTask(), model)
    model.loss(inputs[:2], samples[:2])['loss'].backward()
    assert shapes == [17, 1, 17, 17]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


@pytest.mark.parametrize(
    'settings', [dict(out_type='avg_featmap'), dict(out_indices=[0, 1])]
)
def test_other_outputs_need_all_tokens(settings):
    config = tiny_classifier_config('deit')
    config.pop('train_cfg')
    config.backbone.update(settings)
    config.head = dict(ARC_FACE)
    init_default_scope('mmpretrain')
    model = randomise(MODELS.build(config))
    halves, inputs, _ = halves_of(ClassificationTask(), model)
    torch.testing.assert_close(
        halves['forget'].logits, model(inputs[:2]), atol=1e-4, rtol=1e-4
    )


def test_batch_augmentations_are_left_out():
    """They would blend images to forget with images to retain."""
    config = tiny_classifier_config('deit')
    in_preprocessor = copy.deepcopy(config)
    in_preprocessor.data_preprocessor.batch_augments = in_preprocessor.pop(
        'train_cfg'
    )
    for stock in (config, in_preprocessor):
        init_default_scope('mmpretrain')
        with_augmentations = MODELS.build(copy.deepcopy(stock))
        assert with_augmentations.data_preprocessor.batch_augments
        model = ForgettingModel(
            stock.to_dict(),
            dict(type='gslora_mm.ClassificationTask'),
            dict(type='gslora_mm.GSLoRA'),
            dict(rank=2),
        )
        batch = model.data_preprocessor(random_images(), training=True)
        plain = model.data_preprocessor(random_images(), training=False)
        assert torch.equal(batch['inputs'], plain['inputs'])
        # The labels are one-hot still, for losses that need them so.
        for sample in batch['data_samples']:
            assert sample.gt_score.argmax() == sample.gt_label
            assert sample.gt_score.sum() == sample.gt_score.max() == 1


def test_accuracies_are_no_losses():
    model = build_classifier(
        'deit', cal_acc=True, loss=dict(type='CrossEntropyLoss')
    )
    model.data_preprocessor.to_onehot = False
    halves, inputs, samples = halves_of(ClassificationTask(), model)
    expected = model.loss(inputs[:2], samples[:2])
    assert 'accuracy_top-1' in expected
    assert set(halves['forget'].losses) == {'loss'}
    assert halves['forget'].loss.item() == expected['loss'].item()


def test_other_losses_are_told_apart(monkeypatch):
    model = build_classifier('deit')
    loss = model.head.loss

    def with_auxiliary(*args):
        found = loss(*args)
        return {**found, 'loss_aux': 2 * found['loss'].detach() + 1}

    monkeypatch.setattr(model.head, 'loss', with_auxiliary)
    half = halves_of(ClassificationTask(), model)[0]['forget']
    assert half.loss_rest == 2 * half.loss_cls.detach() + 1
    assert half.loss == half.loss_cls + half.loss_rest


def test_margins_are_in_the_loss_alone():
    model = arc_face().train()
    half = halves_of(ClassificationTask(), model)[0]['forget']
    cosine = F.linear(
        F.normalize(half.features),
        F.normalize(ClassificationTask().class_weights(model)),
    )
    torch.testing.assert_close(half.logits, 64 * cosine)
    own = cosine.gather(1, half.labels[:, None])
    with_margin = torch.where(
        own > torch.cos(torch.tensor(torch.pi - 0.5)),
        torch.cos(own.acos() + 0.5),
        own - 0.5 * torch.sin(torch.tensor(torch.pi - 0.5)),
    )
    logits = 64 * cosine.scatter(1, half.labels[:, None], with_margin)
    expected = F.cross_entropy(logits, half.labels)
    torch.testing.assert_close(half.loss_cls, expected)
    assert half.loss_cls > F.cross_entropy(half.logits, half.labels)


def test_the_head_runs_in_full_precision():
    model = arc_face()  # refuses bfloat16 features on its own
    half = halves_of(ClassificationTask(), model)[0]['forget']
    with torch.autocast('cpu', torch.bfloat16):
        values = (half.loss_cls, half.features, half.logits)
    assert all(value.dtype == torch.float32 for value in values)


def test_sub_centers_have_no_class_weights():
    model = arc_face(num_subcenters=3)
    task = ClassificationTask()
    task.check_model(model)
    assert halves_of(task, model)[0]['forget'].loss_cls.isfinite()
    with pytest.raises(ConfigError, match='ArcFaceClsHead.*num_subcenters'):
        task.class_weights(model)


def test_frozen_batch_norms_stay_as_they_are():
    config = tiny_classifier_config('deit').to_dict()
    config['neck'] = dict(type='ClsBatchNormNeck', input_features=32)
    init_default_scope('mmpretrain')
    settings = (
        dict(type='gslora_mm.ClassificationTask'),
        dict(type='gslora_mm.GSLoRA'),
    )
    model = ForgettingModel(config, *settings, dict(rank=2)).train()
    assert model.model.backbone.training
    assert not model.model.neck.bn.training


HEADS = {
    'multi-label': (
        dict(type='MultiLabelLinearClsHead', num_classes=4, in_channels=32),
        'MultiLabelLinearClsHead.*one class',
    ),
    'distilled': (
        dict(type='DeiTClsHead', num_classes=4, in_channels=32),
        'DeiTClsHead.*distillation token',
    ),
    'without a class layer': (dict(type='ClsHead'), "'ClsHead'.*class layer"),
    'none': (None, "'NoneType'.*one class"),
}


@pytest.mark.parametrize('name', HEADS)
def test_heads_that_cannot_be_read(name):
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    config = tiny_classifier_config('deit')
    config.head, message = HEADS[name]
    model = MODELS.build(config)
    with pytest.raises(ConfigError, match=f'model.head.type = .*{message}'):
        ClassificationTask().check_model(model)


def test_reads_image_classifiers_only():
    with pytest.raises(ConfigError, match="model.type = 'Linear'"):
        ClassificationTask().check_model(torch.nn.Linear(1, 1))


def test_evaluator():
    task = TASKS.build(dict(type='gslora_mm.ClassificationTask'))
    splits = dict(forget=['cat'], retain=['dog'])
    stock = dict(type='Accuracy', topk=(1, 5))
    ours = dict(
        type='gslora_mm.ForgettingAccuracy', topk=(1, 5), splits=splits
    )
    assert task.evaluator(stock, splits, False) == ours
    assert task.evaluator([stock], splits, False) == ours
    assert task.evaluator(ours, splits, False) == ours
    # Others are kept behind it, and get the splits if they take them.
    other = dict(type='SingleLabelMetric')
    splitting = dict(type='gslora_mm.ForgettingCocoMetric', ann_file='x')
    assert task.evaluator([other, splitting, stock], splits, False) == [
        ours,
        other,
        {**splitting, 'splits': splits},
    ]
    assert 'splits' not in splitting


@pytest.mark.parametrize(
    'evaluator', [dict(type='CocoMetric'), [], [dict(type='Accuracy')] * 2]
)
def test_evaluators_without_one_accuracy(evaluator):
    with pytest.raises(ConfigError, match='val_evaluator = .*Accuracy'):
        ClassificationTask().evaluator(evaluator, {}, False)


# The same rows, otherwise ---------------------------------------------------


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_seen_by_a_model_in_evaluation_mode(name):
    """By itself, and by another one of the same kind."""
    model, other = (build_classifier(name, seed=i).eval() for i in (0, 1))
    halves, inputs, _ = halves_of(ClassificationTask(), model, SIZES[name])
    half = halves['retain']
    own = half.seen_by(model)
    torch.testing.assert_close(own.features, half.features)
    torch.testing.assert_close(own.logits, half.logits)
    seen = half.seen_by(other)
    torch.testing.assert_close(seen.logits, other(inputs[2:]))
    assert not torch.allclose(seen.logits, own.logits)
    assert seen.features.shape == own.features.shape
    layer = getattr(other.head, 'fc', None) or other.head.layers.head
    torch.testing.assert_close(layer(seen.features), seen.logits)


def test_seen_by_another_state_of_the_model():
    """What the half has computed before does not matter."""
    model = build_classifier('deit').eval()
    half = halves_of(ClassificationTask(), model)[0]['retain']
    before = half.logits.clone()
    with torch.no_grad():
        model.backbone.layers[0].ffn.layers[1].weight *= 2
    assert not torch.allclose(half.seen_by(model).logits, before)
    assert torch.equal(half.logits, before)


def test_scores_of_one_image_add_up_to_one():
    half = halves_of(ClassificationTask(), build_classifier('vit'))[0]
    assert half['forget'].activation == 'softmax'


@pytest.mark.parametrize('one_hot', [True, False])
def test_relabelled(one_hot):
    loss = dict(type='CrossEntropyLoss', use_soft=one_hot)
    model = build_classifier('deit', loss=loss)
    model.data_preprocessor.to_onehot = one_hot
    halves, inputs, samples = halves_of(ClassificationTask(), model)
    half = halves['forget']
    labels, loss = half.labels.tolist(), half.loss.item()
    other = half.relabelled(lambda labels: (labels + 1) % 4)
    assert other.labels.tolist() == [(label + 1) % 4 for label in labels]
    expected = F.cross_entropy(model(inputs[:2]), other.labels)
    torch.testing.assert_close(other.loss, expected)
    assert other.role == 'forget' and len(other) == 2
    # The half is what it was, and so are the samples that it came from.
    assert half.labels.tolist() == labels
    assert [int(sample.gt_label) for sample in samples[:2]] == labels
    again = halves_of(ClassificationTask(), model)[0]['forget']
    assert half.loss.item() == again.loss.item() == loss
