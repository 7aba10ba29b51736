import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope

from gslora_mm.registry import MODELS
from gslora_mm.tasks import ClassificationTask
from tests.classifiers import (
    build_classifier,
    randomise,
    tiny_classifier_config,
)
from tests.test_tasks.helpers import ARC_FACE, halves_of


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
