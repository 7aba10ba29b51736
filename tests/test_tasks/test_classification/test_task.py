import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from gslora_mm.lora import lora_groups, lora_parameters, merge_lora
from gslora_mm.registry import MODELS, TASKS
from gslora_mm.tasks import ClassificationTask
from gslora_mm.training import ForgettingModel
from gslora_mm.utils import ConfigError
from tests.classifiers import (
    CLASSIFIERS,
    SIZES,
    build_classifier,
    random_images,
    randomise,
    tiny_classifier_config,
)
from tests.test_tasks.helpers import arc_face, halves_of


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
