"""Public packages and their converted weights give the same outputs.

These tests need ``timm`` and ``transformers``, see
requirements/converters.txt, and are skipped without them.
"""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from torch import nn

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.models.converters import SOURCES, recognise
from tests.detectors import tiny_detector_config
from . import layouts
from .test_classifiers import (
    CLASSES,
    DEPTH,
    HEADS,
    PATCH,
    SIZE,
    WIDTH,
    classifier,
)

EXACT = dict(atol=1e-5, rtol=1e-5)
VIT = dict(
    image_size=SIZE,
    patch_size=PATCH,
    hidden_size=WIDTH,
    num_hidden_layers=DEPTH,
    num_attention_heads=HEADS,
    intermediate_size=2 * WIDTH,
    num_labels=CLASSES,
)


def randomise(model: nn.Module) -> nn.Module:
    """Draw all weights and statistics; what is shared stays so."""
    torch.manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.ndim > 1:
            value.normal_(std=value[0].numel() ** -0.5)
        elif value.is_floating_point():
            value.normal_(mean=float(name.endswith('weight')), std=0.2)
    return model.eval()


def stock(source: nn.Module, name: str, model: nn.Module) -> nn.Module:
    """Load a source model's converted weights into one of OpenMMLab."""
    state = source.state_dict()
    assert recognise(state) == name
    converted = SOURCES[name].convert(state)
    model.load_state_dict(converted, strict=True)
    return model.eval()


@torch.no_grad()
def compare_logits(
    source: nn.Module, name: str, model: nn.Module, head: str = ''
) -> None:
    images = torch.randn(3, 3, SIZE, SIZE)
    theirs = source(images)
    theirs = getattr(theirs, head) if head else theirs
    ours = stock(source, name, model)(images)
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize(
    'theirs, ours',
    [
        ({}, {}),
        (dict(qkv_bias=False), dict(qkv_bias=False)),
        (dict(init_values=0.1), dict(layer_scale_init_value=0.1)),
        (
            dict(global_pool='avg'),
            dict(out_type='avg_featmap', final_norm=False),
        ),
    ],
    ids=['plain', 'no qkv bias', 'layer scale', 'average'],
)
def test_timm_vit(theirs, ours):
    timm = pytest.importorskip('timm')
    source = timm.models.vision_transformer.VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=2,
        num_classes=CLASSES,
        **theirs,
    )
    model = classifier(dict(type='VisionTransformerClsHead'), **ours)
    compare_logits(randomise(source), 'timm_vit', model)


@pytest.mark.parametrize('qkv_bias', [True, False])
def test_hf_vit(qkv_bias):
    hf = pytest.importorskip('transformers')
    config = hf.ViTConfig(**VIT, qkv_bias=qkv_bias)
    model = classifier(
        dict(type='VisionTransformerClsHead'),
        qkv_bias=qkv_bias,
        norm_cfg=dict(type='LN', eps=1e-12),
    )
    source = randomise(hf.ViTForImageClassification(config))
    compare_logits(source, 'hf_vit', model, 'logits')


def detector(name: str, width: int, depth: int, base: int = 8) -> nn.Module:
    """A small detector of mmdet."""
    init_default_scope('mmdet')
    cfg = tiny_detector_config(name, layouts.CLASSES, width)
    indices = cfg.backbone.out_indices
    expansion = 4 if depth == 50 else 1
    cfg.backbone.update(depth=depth, base_channels=base)
    cfg.neck.in_channels = [base * 2**i * expansion for i in indices]
    if cfg.neck.norm_cfg:
        cfg.neck.norm_cfg.num_groups = 32
        cfg.neck.bias = True
    return MODELS.build(cfg)


def hf_detector(config: str, width: int, depth: int, **settings):
    """The config of Hugging Face for the same detector."""
    hf = pytest.importorskip('transformers')
    expansion = 4 if depth == 50 else 1
    deformable = config.startswith('Deformable')
    backbone = hf.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8 * 2**i * expansion for i in range(4)],
        depths=[3, 4, 6, 3] if depth == 50 else [2, 2, 2, 2],
        layer_type='bottleneck' if depth == 50 else 'basic',
        out_features=[f'stage{i}' for i in (2, 3, 4) if deformable or i == 4],
    )
    settings = dict(
        dict(
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=backbone,
        ),
        **settings,
    )
    return getattr(hf, config)(
        d_model=width,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=10,
        num_labels=layouts.CLASSES,
        two_stage_num_proposals=10,
        **settings,
    )


@torch.no_grad()
def compare_detections(source: nn.Module, name: str, model: nn.Module):
    """Compare all layers' logits and boxes, of padded images, too."""
    images = torch.randn(2, 3, 96, 128)
    sizes = [(96, 128), (70, 100)]
    mask = torch.zeros(2, 96, 128)
    samples = []
    for i, (height, width) in enumerate(sizes):
        mask[i, :height, :width] = 1
        sample = DetDataSample()
        sample.set_metainfo(
            dict(img_shape=(height, width), batch_input_shape=(96, 128))
        )
        samples.append(sample)
    theirs = source(images, pixel_mask=mask)
    ours = stock(source, name, model)(images, samples, mode='tensor')
    logits, boxes = ours[:2]
    torch.testing.assert_close(logits[-1], theirs.logits, **EXACT)
    torch.testing.assert_close(boxes[-1], theirs.pred_boxes, **EXACT)


@pytest.mark.parametrize('depth', [18, 50])
def test_hf_detr(depth):
    hf = pytest.importorskip('transformers')
    config = hf_detector('DetrConfig', 32, depth)
    source = randomise(hf.DetrForObjectDetection(config))
    compare_detections(source, 'hf_detr', detector('detr', 32, depth))


def test_hf_detr_with_a_backbone_of_timm():
    pytest.importorskip('timm')
    hf = pytest.importorskip('transformers')
    config = hf_detector(
        'DetrConfig',
        32,
        18,
        use_timm_backbone=True,
        backbone='resnet18',
        backbone_config=None,
    )
    source = randomise(hf.DetrForObjectDetection(config))
    model = detector('detr', 32, 18, base=64)
    compare_detections(source, 'hf_detr', model)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize(
    'name, settings',
    [
        ('deformable_detr', {}),
        ('deformable_detr_refine', dict(with_box_refine=True)),
        (
            'deformable_detr_two_stage',
            dict(with_box_refine=True, two_stage=True),
        ),
    ],
)
def test_hf_deformable_detr(name, settings, depth):
    hf = pytest.importorskip('transformers')
    width = 256 if 'two_stage' in settings else 64
    config = hf_detector('DeformableDetrConfig', width, depth, **settings)
    source = randomise(hf.DeformableDetrForObjectDetection(config))
    compare_detections(
        source, 'hf_deformable_detr', detector(name, width, depth)
    )


def shapes(model: nn.Module) -> layouts.Layout:
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def test_the_layout_of_detr():
    hf = pytest.importorskip('transformers')
    config = hf_detector('DetrConfig', layouts.WIDTH, 18)
    model = hf.DetrForObjectDetection(config)
    assert shapes(model) == layouts.hf_detr()


@pytest.mark.parametrize(
    'settings',
    [{}, dict(refine=True), dict(stages=2, refine=True)],
    ids=['plain', 'refine', 'two stages'],
)
def test_the_layout_of_deformable_detr(settings):
    hf = pytest.importorskip('transformers')
    config = hf_detector(
        'DeformableDetrConfig',
        layouts.WIDTH,
        18,
        with_box_refine=settings.get('refine', False),
        two_stage=settings.get('stages') == 2,
    )
    model = hf.DeformableDetrForObjectDetection(config)
    assert shapes(model) == layouts.hf_deformable_detr(**settings)
