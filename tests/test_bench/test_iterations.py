"""Iterations on random images, with what is frozen computed once."""

import argparse

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.bench.iterations import (
    ADAPTER,
    AMP,
    CACHED,
    CACHED_AMP,
    DECODER,
    FORWARD,
    FULL,
    FULL_AMP,
    make_step,
    variants_of,
)
from tests.detectors import tiny_detector_config


@pytest.fixture
def cfg():
    init_default_scope('mmdet')
    return Config(
        dict(
            default_scope='mmdet',
            model=tiny_detector_config('deformable_detr'),
            method=dict(type='gslora_mm.GSLoRA'),
            adapter=dict(rank=2),
            schedule=dict(
                optim_wrapper=dict(
                    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2)
                )
            ),
        )
    )


def test_a_detector_is_measured_with_its_trunk_cached_as_well(cfg):
    names = (FORWARD, FULL, ADAPTER, CACHED, DECODER)
    assert variants_of(cfg, amp=False) == names
    assert variants_of(cfg, amp=True) == (*names, FULL_AMP, AMP, CACHED_AMP)


@pytest.mark.parametrize('variant', [CACHED, DECODER, CACHED_AMP])
def test_what_is_cached_is_computed_once(cfg, variant):
    args = argparse.Namespace(images=2, size=64, objects=2)
    step, model = make_step(variant, cfg, args)
    passes = []
    first_layer = model.model.encoder.layers[0]
    for name, module in (
        ('backbone', model.model.backbone),
        ('encoder', first_layer),
    ):
        module.register_forward_hook(lambda *_, name=name: passes.append(name))
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    for _ in range(3):
        step()
    moved = {
        name.split('.')[1]
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert passes.count('backbone') == 1
    # Each half on its own, in each iteration, unless it is frozen.
    assert passes.count('encoder') == (1 if variant == DECODER else 6)
    assert moved == {'decoder'} | (
        set() if variant == DECODER else {'encoder'}
    )
