import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

from gslora_mm.tasks.detection.patches import (
    computing_losses,
    last_layer_only,
    recording_proposals,
    replaying_proposals,
    without_focus,
)
from tests.detectors import build_detector, random_batch


def test_quality_focal_loss_has_no_focus_on_what_becomes_background():
    loss = MODELS.build(dict(type='QualityFocalLoss', beta=2.0))
    logits, labels = torch.randn(3, 4), torch.full((3,), 4)
    targets = (labels, torch.zeros(3))
    with without_focus(loss):
        found = loss(logits, targets)
    torch.testing.assert_close(found, F.softplus(logits).sum() / 3)
    assert loss(logits, targets) < found


def test_a_loss_without_focus_is_left_alone():
    loss = MODELS.build(dict(type='CrossEntropyLoss'))
    before = dict(vars(loss))
    with without_focus(loss):
        assert vars(loss) == before


@pytest.mark.parametrize('name', ['dino', 'ddq_detr', 'deformable_detr'])
def test_proposals_of_a_two_stage_detector(name):
    """What one chose is what the other one starts from."""
    model, other = (build_detector(name, seed=i).eval() for i in (0, 1))
    batch = model.data_preprocessor(random_batch(), True)
    inputs, samples = batch['inputs'], batch['data_samples']

    def references(detector, patch, proposals):
        with computing_losses(detector), patch(detector, proposals):
            found = detector.forward_transformer(
                detector.extract_feat(inputs), samples
            )
        return found['references'][0]

    chosen = []
    torch.manual_seed(0)  # for denoising queries
    first = references(model, recording_proposals, chosen)
    if name == 'deformable_detr':
        assert not chosen  # its queries are the same for all images
        references(other, replaying_proposals, chosen)
        return
    assert torch.equal(chosen[0], first) and not chosen[0].requires_grad
    torch.manual_seed(0)
    assert torch.equal(references(other, replaying_proposals, chosen), first)
    torch.manual_seed(0)
    assert not torch.equal(references(other, recording_proposals, []), first)
    assert not {'pre_decoder'} & {*vars(model), *vars(other)}


@pytest.mark.parametrize('name', ['deformable_detr', 'ddq_detr'])
def test_other_layers_are_not_compared(name):
    model = build_detector(name)
    batch = model.data_preprocessor(random_batch(), True)
    inputs, samples = batch['inputs'], batch['data_samples']
    torch.manual_seed(0)  # deformable attention has dropout by default
    expected = model.loss(inputs, samples)
    torch.manual_seed(0)
    with last_layer_only(model.bbox_head, model.decoder.num_layers):
        found = model.loss(inputs, samples)
    # Those of DDQ-DETR's dense queries are left out.
    assert set(found) == {key for key in expected if '_aux_' not in key}
    for key, loss in found.items():
        is_of_last = key.startswith('loss_') or 'dn_loss' in key
        assert loss == (expected[key] if is_of_last else 0)
