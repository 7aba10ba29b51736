import torch
from mmengine.optim import build_optim_wrapper

from gslora_mm.training import BFloat16OptimWrapper, enable_amp

CONFIG = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))


def test_amp_is_bfloat16_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    amp = enable_amp({**CONFIG, 'loss_scale': 'dynamic', 'dtype': 'float16'})
    assert amp == {**CONFIG, 'type': 'gslora_mm.BFloat16OptimWrapper'}


def test_amp_is_that_of_mmengine_with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    amp = enable_amp(CONFIG)
    assert amp['type'] == 'AmpOptimWrapper'
    assert amp['loss_scale'] == 'dynamic'


def test_forward_runs_in_bfloat16_and_parameters_stay_float32():
    model = torch.nn.Linear(4, 4)
    wrapper = build_optim_wrapper(
        model, {**CONFIG, 'type': 'gslora_mm.BFloat16OptimWrapper'}
    )
    assert isinstance(wrapper, BFloat16OptimWrapper)
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32
    assert model(torch.ones(2, 4)).dtype == torch.float32
