from types import SimpleNamespace

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch import nn

from gslora_mm.tasks import DetectionTask
from gslora_mm.training import ForgettingModel
from gslora_mm.utils import ConfigError
from tests.detectors import (
    DETECTORS,
    build_detector,
    random_batch,
    tiny_detector_config,
    with_level_embed,
)


def test_a_head_without_class_weights_is_named():
    model = build_detector('detr')
    model.bbox_head.fc_cls = torch.nn.Identity()
    with pytest.raises(ConfigError, match="'DETRHead'.*no linear class layer"):
        DetectionTask().class_weights(model)


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(aux_loss=dict(forget=True)), 'task.aux_loss'),
        (dict(aux_loss=dict(retain=1)), 'task.aux_loss'),
        (dict(aux_loss=True), 'task.aux_loss = True'),
        (dict(forget_queries='some'), "task.forget_queries = 'some'"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match=named):
        DetectionTask(**settings)


def test_reads_the_detr_family_only():
    with pytest.raises(ConfigError, match="model.type = 'Linear'"):
        DetectionTask().check_model(torch.nn.Linear(1, 1))


def test_detectors_that_read_texts_are_refused_unbuilt():
    """Building one would load a language model from the network."""
    model = get_config(
        'mmdet::grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py'
    ).model
    with pytest.raises(ConfigError, match="'GroundingDINO': .*reads texts"):
        DetectionTask().prepare_config(model)


def with_foreign_head(head):
    """A detector with a head that stands outside of mmdet."""
    model = build_detector('deformable_detr')
    model.bbox_head.__class__ = head
    return model


def test_a_foreign_head_is_tried_before_training():
    from mmdet.models.dense_heads import DeformableDETRHead

    class Own(DeformableDETRHead):
        pass

    class OneToMany(DeformableDETRHead):
        def loss_by_feat(self, cls_scores, *args, **kwargs):
            return dict(loss_cls=cls_scores.sum(), loss_bbox=cls_scores.sum())

    class WithIou(DeformableDETRHead):
        def loss_by_feat_single(self, cls_scores, boxes, ious):
            return cls_scores.sum(), boxes.sum(), ious.sum()

    task = DetectionTask()
    task.try_model(with_foreign_head(Own))
    before = torch.get_rng_state()
    for head, reason in (
        (OneToMany, 'OneToMany does not ask get_targets'),
        (WithIou, 'unexpected keyword'),
    ):
        with pytest.raises(ConfigError, match=f'bbox_head.type = .*{reason}'):
            task.try_model(with_foreign_head(head))
    assert torch.equal(before, torch.get_rng_state())


def forgetting_model(name='deformable_detr', **kwargs):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = ForgettingModel(
        tiny_detector_config(name),
        dict(type='gslora_mm.DetectionTask'),
        dict(type='gslora_mm.GSLoRA', beta=0.3, bound=5.0),
        dict(rank=2),
        **kwargs,
    )
    return with_level_embed(model)


def batch_with_roles():
    batch = random_batch(4)
    for i, sample in enumerate(batch['data_samples']):
        role = 'forget' if i % 2 else 'retain'
        sample.set_metainfo(dict(role=role))
    return batch


@pytest.mark.parametrize('name', ['deformable_detr', 'ddq_detr'])
def test_only_the_adapter_gets_gradients(name):
    model = forgetting_model(name).train()
    losses = model(**model.data_preprocessor(batch_with_roles()), mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    for name, parameter in model.named_parameters():
        is_adapter = name.split('.')[-1] in ('lora_A', 'lora_B')
        assert parameter.requires_grad == is_adapter
        assert (parameter.grad is not None) == is_adapter


def test_the_frozen_trunk_stays_in_evaluation_mode():
    model = forgetting_model().train()
    assert model.model.encoder.training
    assert not model.model.backbone.training
    before = {k: v.clone() for k, v in model.model.backbone.named_buffers()}
    model(**model.data_preprocessor(batch_with_roles()), mode='loss')
    for name, buffer in model.model.backbone.named_buffers():
        assert torch.equal(buffer, before[name])


def test_a_batch_without_roles_is_refused():
    model = forgetting_model()
    with pytest.raises(ValueError, match='role'):
        model(**model.data_preprocessor(random_batch(2)), mode='loss')


def test_what_is_saved_for_a_resume_is_small_and_enough():
    model = forgetting_model()
    state = {k: v.clone() for k, v in model.resume_state_dict().items()}
    assert all('lora_' in key for key in state)
    with torch.no_grad():
        for parameter in model.groups['encoder.layers.0.ffn']:
            parameter += 1
    model.load_resume_state_dict(state)
    for key, value in model.resume_state_dict().items():
        assert torch.equal(value, state[key])
    state.pop(next(iter(state)))
    with pytest.raises(ConfigError, match='1 keys differ'):
        model.load_resume_state_dict(state)


def test_evaluators_that_people_have():
    task, splits = DetectionTask(), dict(forget=['cat'])
    stock = dict(type='CocoMetric', ann_file='val.json', metric='bbox')
    ours = dict(
        type='gslora_mm.ForgettingCocoMetric',
        ann_file='val.json',
        metric='bbox',
        format_only=False,
        splits=splits,
        only_split_images=True,
        by_name=True,
    )
    assert task.evaluator(stock, splits, True) == ours
    assert task.evaluator([stock], splits, True) == ours
    assert task.evaluator(ours, splits, True) == ours
    faster = {**stock, 'type': 'mmdet.FasterCocoMetric'}
    assert task.evaluator(faster, splits, True) == {**ours, 'faster': True}
    # Only boxes are scored, and they always are.
    for more in (
        dict(metric=['bbox', 'segm']),
        dict(format_only=True),
        dict(metric=['proposal', 'bbox'], classwise=True),
    ):
        found = task.evaluator({**stock, **more}, splits, True)
        assert {k: found[k] for k in ours} == ours
    # Others come after it, as they are.
    other = dict(type='DumpDetResults', out_file_path='a.pkl')
    assert task.evaluator([other, stock], splits, True) == [ours, other]


@pytest.mark.parametrize(
    ('evaluator', 'message'),
    [
        (dict(type='VOCMetric'), "^val_evaluator = .*'VOCMetric'.*CocoMetric"),
        ([], '^val_evaluator = .*must be one|scored by COCO AP'),
        ([dict(type='CocoMetric')] * 2, 'a list with one of these'),
        (dict(type='CocoMetric', metric='segm'), "metric = 'segm': must be"),
        (dict(type='CocoMetric', metric=['proposal']), 'or a list with it'),
    ],
)
def test_other_evaluators_are_named(evaluator, message):
    with pytest.raises(ConfigError, match=message):
        DetectionTask().evaluator(evaluator, {}, False)


@pytest.mark.parametrize('name', DETECTORS)
def test_class_layers_are_all_that_tell_classes(name):
    head = build_detector(name).bbox_head
    model = SimpleNamespace(
        bbox_head=head, decoder=SimpleNamespace(num_layers=1)
    )
    wanted = {
        id(layer)
        for part, layer in head.named_modules()
        if 'cls' in part and isinstance(layer, nn.Linear)
    }
    found = DetectionTask().class_layers(model)
    assert {id(layer) for layer in found} == wanted != set()
