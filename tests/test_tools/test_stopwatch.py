"""tools/analysis_tools/stopwatch.py: what it measures of a classifier."""

import argparse

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.bench.iterations import FULL_AMP
from gslora_mm.bench.stopwatch import Stopwatch
from gslora_mm.utils import load_json
from tests.test_tools.helpers import load_tool

tool = load_tool('analysis_tools/stopwatch')


@pytest.fixture
def cfg():
    init_default_scope('mmpretrain')
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='VisionTransformer',
                    arch=dict(
                        embed_dims=16,
                        num_layers=2,
                        num_heads=2,
                        feedforward_channels=32,
                    ),
                    img_size=16,
                    patch_size=8,
                ),
                head=dict(
                    type='gslora_mm.CosFaceClsHead',
                    num_classes=3,
                    in_channels=16,
                ),
            ),
            data_preprocessor=dict(
                num_classes=3, mean=[0] * 3, std=[255] * 3, to_rgb=True
            ),
            method=dict(type='gslora_mm.GSLoRA'),
            adapter=dict(rank=2),
            schedule=dict(
                optim_wrapper=dict(
                    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2)
                )
            ),
        )
    )


def test_defaults_follow_the_model(cfg):
    args = argparse.Namespace(images=None, size=None, amp=None)
    tool.with_defaults(args, cfg)
    assert (args.images, args.size, args.amp) == (48, 16, True)
    detector = Config(dict(default_scope='mmdet', model=dict(backbone={})))
    args = argparse.Namespace(images=None, size=None, amp=None)
    tool.with_defaults(args, detector)
    assert (args.images, args.size, args.amp) == (4, 384, False)


@pytest.mark.parametrize(
    'variant', [tool.FORWARD, tool.FULL, tool.ADAPTER, tool.AMP, FULL_AMP]
)
def test_a_step_of_each_variant_trains_what_it_should(cfg, variant):
    args = argparse.Namespace(images=4, size=16)
    watch = Stopwatch()
    step, model = tool.make_step(variant, cfg, args, watch)
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    for _ in range(2):  # A has no gradient while B is 0
        step()
    moved = {
        name
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    trained = {'backward', 'optimizer'} & {*watch.seconds}
    assert len(trained) == (0 if variant == tool.FORWARD else 2)
    assert {'data', 'trunk', 'head and loss'} <= {*watch.seconds}
    if variant == tool.FORWARD:
        assert not moved
    elif variant in (tool.FULL, FULL_AMP):
        assert 'head.norm_product.weight' in moved
        assert 'backbone.cls_token' in moved
    else:
        adapter = {name for name in before if 'lora_' in name}
        assert len(adapter) == 8 and moved == adapter


def test_figures_of_a_classifier_in_files(cfg, tmp_path, monkeypatch, capsys):
    for name in ('forgetting', 'schedule'):
        cfg.setdefault(name, {})
    cfg.forgetting.steps = [['a']]
    cfg.dump(tmp_path / 'config.py')
    out, trace = tmp_path / 'out.json', tmp_path / 'trace.json'
    monkeypatch.setattr(tool, 'peak_of', lambda variant: 8)
    monkeypatch.setattr(
        'sys.argv',
        ['stopwatch.py', str(tmp_path / 'config.py'), '--images', '4',
         '--iters', '2', '--out', str(out), '--trace', str(trace)],
    )  # fmt: skip
    tool.main()
    figures = load_json(out)
    assert figures['size'] == 16 and figures['device']
    assert [*figures['seconds']] == [
        tool.FORWARD,
        tool.FULL,
        tool.ADAPTER,
        FULL_AMP,
        tool.AMP,
    ]
    assert all(len(found) == 2 for found in figures['seconds'].values())
    parts = figures['median_parts'][tool.ADAPTER]
    assert parts['trunk'] > 0 and 'Transformer' not in parts
    # It lacks data and weights, which is said, and leaves dashes.
    assert 'reason' in figures['whole_way']
    printed = capsys.readouterr().out
    assert 'the sequence itself: not measured (' in printed
    assert '| evaluation    |       - |' in printed
    assert 'traceEvents' in load_json(trace)


def test_each_half_needs_an_image(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['stopwatch.py', '--images', '1'])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert stop.value.code == 2
    assert '--images 1: at least 2' in capsys.readouterr().err
