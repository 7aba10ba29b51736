"""LoRA in an ordinary run: MMEngine's own Runner, and this project's."""

import os
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
import torch.multiprocessing as mp
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as StockRunner

from gslora_mm.lora import lora_parameters, read_adapter
from gslora_mm.models import AdaptedModel
from gslora_mm.training import enable_amp
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import load_checkpoint
from gslora_mm.utils.distributed import model_of
from tests.lora_runs import (
    CLASSIFIER,
    DETECTOR,
    lora_config,
    make_lora_inputs,
    stock_model,
)
from tests.test_tools.helpers import load_tool

NAMES = (DETECTOR, CLASSIFIER)


@pytest.fixture(scope='session')
def lora_inputs(tmp_path_factory):
    """Folders of data and stock checkpoint, by config."""
    return {
        name: make_lora_inputs(tmp_path_factory.mktemp(name), name)
        for name in NAMES
    }


def train(cfg, runner_type=None):
    """As mmdet's own tools/train.py, or as that of this project."""
    if runner_type is None:
        runner = StockRunner.from_cfg(cfg)
    else:
        cfg.runner_type = runner_type
        runner = RUNNERS.build(cfg)
    runner.train()
    return runner


@torch.no_grad()
def predictions(model, runner):
    batch = next(iter(runner.val_dataloader))
    model.eval()
    found = model.test_step(batch)
    if hasattr(found[0], 'pred_score'):
        return [sample.pred_score for sample in found]
    found = [sample.pred_instances for sample in found]
    return [x for each in found for x in (each.scores, each.bboxes)]


def assert_same(one, other):
    assert len(one) == len(other) > 1
    for a, b in zip(one, other, strict=True):
        # boxes are in pixels, some 100 across
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_leaves_a_stock_checkpoint(lora_inputs, tmp_path, name):
    """With MMEngine's Runner and nothing but the config."""
    runner = train(lora_config(lora_inputs[name], tmp_path, name))
    model = model_of(runner)
    assert type(runner) is StockRunner and isinstance(model, AdaptedModel)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert f'adapter: {len(model.groups)} groups' in log
    assert 'do not match' not in log  # keys of a checkpoint

    before = load_checkpoint(lora_inputs[name] / 'stock.pth')['state_dict']
    merged = load_checkpoint(tmp_path / 'merged.pth')
    assert list(merged['state_dict']) == list(before)
    changed = {
        key
        for key, value in merged['state_dict'].items()
        if not torch.equal(value, before[key])
    }
    # the FFNs of all blocks; a trained head; the attention of a ViT
    assert changed
    for key in changed:
        assert any(part in key for part in ('ffn', 'attn', 'head.')), key
    assert len(merged['meta']['dataset_meta']['classes']) == 10

    stock = stock_model(runner.cfg, seed=1)
    stock.load_state_dict(merged['state_dict'], strict=True)
    assert_same(predictions(stock, runner), predictions(model, runner))
    matrices, settings = read_adapter(tmp_path / 'adapter.safetensors')
    assert len(matrices) == len(lora_parameters(model))
    assert (settings['rank'], settings['alpha']) == ('8', '16.0')

    # The tool makes the same of the last checkpoint of the run.
    out = tmp_path / 'folded.pth'
    merge = load_tool('model_tools/merge_adapter').main
    merge([str(tmp_path / 'epoch_2.pth'), str(out)])
    folded = load_checkpoint(out)
    assert folded['meta'].keys() == {'dataset_meta'}
    assert list(folded['state_dict']) == list(before)
    for key, value in folded['state_dict'].items():
        assert torch.equal(value, merged['state_dict'][key])


def test_only_a_run_with_an_adapter_can_be_folded(lora_inputs, tmp_path):
    merge = load_tool('model_tools/merge_adapter').main
    stock, out = lora_inputs[DETECTOR] / 'stock.pth', tmp_path / 'out.pth'
    with pytest.raises(SystemExit, match='CHECKPOINT: not that of a train'):
        merge([str(stock), str(out)])
    assert not out.exists()


@pytest.mark.parametrize('runner_type', [None, 'gslora_mm.Runner'])
def test_resumed_run_equals_an_uninterrupted_one(
    lora_inputs, tmp_path, runner_type
):
    """Images as they are, no dropout: nothing else is drawn."""
    inputs = lora_inputs[CLASSIFIER]
    load = dict(type='LoadImageFromFile')
    still = dict(
        train_dataloader__dataset__pipeline=[load, dict(type='PackInputs')]
    )
    whole = lora_config(inputs, tmp_path / 'whole', CLASSIFIER, **still)
    expected = lora_parameters(model_of(train(whole, runner_type)))
    first = lora_config(
        inputs,
        tmp_path / 'run',
        CLASSIFIER,
        train_cfg__max_epochs=1,
        train_cfg__val_interval=1,
        **still,
    )
    train(first, runner_type)
    second = lora_config(inputs, tmp_path / 'run', CLASSIFIER, **still)
    second.resume, second.load_from = True, None
    runner = train(second, runner_type)
    assert runner.epoch == 2
    found = lora_parameters(model_of(runner))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_something_else_is_refused(lora_inputs, tmp_path):
    cfg = lora_config(
        lora_inputs[CLASSIFIER],
        tmp_path,
        CLASSIFIER,
        load_from=str(lora_inputs[DETECTOR] / 'stock.pth'),
    )
    with pytest.raises(ConfigError, match='fits neither'):
        train(cfg)


def test_a_resume_with_another_alpha_is_refused(lora_inputs, tmp_path):
    """It would go on with other weights, and record the old alpha."""
    first = lora_config(
        lora_inputs[CLASSIFIER],
        tmp_path,
        CLASSIFIER,
        train_cfg__max_epochs=1,
        train_cfg__val_interval=1,
    )
    train(first)
    second = lora_config(
        lora_inputs[CLASSIFIER],
        tmp_path,
        CLASSIFIER,
        model__adapter__alpha=4,
    )
    second.resume, second.load_from = True, None
    with pytest.raises(ConfigError, match='alpha is .4.* model, 16.0 in'):
        train(second)


class Anything:
    """An object that a checkpoint has to run code for."""


def test_a_checkpoint_with_code_has_to_be_published_first(
    lora_inputs, tmp_path, capsys
):
    checkpoint = load_checkpoint(lora_inputs[CLASSIFIER] / 'stock.pth')
    checkpoint['optimizer'] = checkpoint['meta']['more'] = Anything()
    code = tmp_path / 'code.pth'
    torch.save(checkpoint, code)
    cfg = lora_config(
        lora_inputs[CLASSIFIER], tmp_path, CLASSIFIER, load_from=str(code)
    )
    with pytest.raises(ConfigError, match='^load_from = .*publish_model.py'):
        train(cfg, 'gslora_mm.Runner')
    publish = load_tool('model_tools/publish_model').main
    publish([str(code), str(tmp_path / 'data.pth'), '--allow-pickle'])
    (data,) = tmp_path.glob('data-*.pth')
    cfg.load_from = str(data)
    cfg.experiment_name = 'again'  # one name, one runner
    train(cfg, 'gslora_mm.Runner')
    assert (tmp_path / 'merged.pth').is_file()


def test_mixed_precision_on_a_cpu(lora_inputs, tmp_path):
    cfg = lora_config(lora_inputs[DETECTOR], tmp_path, DETECTOR)
    cfg.optim_wrapper = enable_amp(cfg.optim_wrapper)
    model = model_of(train(cfg, 'gslora_mm.Runner'))
    for parameter in lora_parameters(model):
        assert parameter.dtype == torch.float32 and parameter.isfinite().all()
        assert parameter.any()


def worker(rank, inputs, folder, batch_size):
    from gslora_mm.training import init_processes

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT='29613',
    )
    init_processes('pytorch')
    train_still(inputs, folder, batch_size, launcher='pytorch')
    os._exit(0)  # see tests/test_lora/test_distributed.py


def train_still(inputs, folder, batch_size, **options):
    load = dict(type='LoadImageFromFile')
    cfg = lora_config(
        inputs,
        folder,
        CLASSIFIER,
        train_dataloader__batch_size=batch_size,
        train_dataloader__dataset__pipeline=[load, dict(type='PackInputs')],
        train_cfg__max_epochs=1,
        train_cfg__val_interval=1,
        model__loss_structure=dict(type='gslora_mm.GroupSparsityLoss'),
        **options,
    )
    return train(cfg, 'gslora_mm.Runner')


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='is about gloo')
def test_two_processes_train_as_one_with_the_joint_batch(
    lora_inputs, tmp_path
):
    inputs = lora_inputs[CLASSIFIER]
    mp.spawn(worker, (inputs, tmp_path / 'two', 4), nprocs=2)
    train_still(inputs, tmp_path / 'one', 8)
    one, two = (
        load_checkpoint(tmp_path / name / 'merged.pth')['state_dict']
        for name in ('one', 'two')
    )
    stock = load_checkpoint(inputs / 'stock.pth')['state_dict']
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-4, rtol=1e-4)
    assert any(not torch.equal(two[key], stock[key]) for key in stock)


@pytest.mark.slow
def test_mmdet_trains_it_with_its_own_tool(lora_inputs, tmp_path):
    """The script of its package, by config alone; and goes on with it."""
    cfg = lora_config(lora_inputs[DETECTOR], tmp_path / 'run', DETECTOR)
    cfg.dump(tmp_path / 'lora.py')
    tool = Path(mmdet.__file__).parent / '.mim/tools/train.py'
    # gslora_mm comes first where torch and torchvision do not match, which
    # mmdet could not be imported with, see docs/en/faq.md.
    start = 'import runpy, sys, gslora_mm; sys.argv.pop(0); ' + (
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [sys.executable, '-c', start, str(tool)]
    arguments.append(str(tmp_path / 'lora.py'))
    for more in ((), ('--resume',)):
        done = subprocess.run(
            [*arguments, *more], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert 'parameters are trained' in done.stdout + done.stderr
        assert (tmp_path / 'run' / 'merged.pth').is_file()
        (tmp_path / 'run' / 'merged.pth').unlink()
        cfg.train_cfg.update(max_epochs=3, val_interval=3)
        cfg.dump(tmp_path / 'lora.py')
    assert (tmp_path / 'run' / 'epoch_3.pth').is_file()
