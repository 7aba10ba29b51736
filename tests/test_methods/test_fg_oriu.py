"""FG-OrIU: its loss by hand, and updates that leave subspaces alone."""

import json

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from gslora_mm.lora import LoRALinear, inject_lora
from gslora_mm.methods import FGOrIU
from gslora_mm.methods.ingredients.subspaces import project_out
from gslora_mm.reports import comparable
from gslora_mm.sequence import ForgettingSequence
from gslora_mm.training.hooks import StepCheckpointHook
from gslora_mm.utils import ConfigError
from gslora_mm.utils.tensor_file import load_tensors
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.killed import Killed, killed_after
from .helpers import (
    TASKS,
    FakeModel,
    Half,
    TinyDataset,
    losses_of,
    tiny_batch,
    tiny_model,
    total,
)

FG_ORIU = dict(type='gslora_mm.FGOrIU')


def basis(columns, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(dim, columns, generator=generator, dtype=torch.double)
    return torch.linalg.qr(rows)[0]


def set_up(**settings):
    """With random subspaces, of one adapted layer and of six features."""
    method = FGOrIU(**settings)
    model = nn.Sequential(nn.Linear(6, 6))
    inject_lora(model, rank=2, target='0')
    method.setup(FakeModel(model.double(), groups=dict(a=[])))
    state = {
        f'{role}.{name}': basis(2, seed=seed)
        for seed, (role, name) in enumerate(
            (role, name)
            for role in ('forget', 'retain')
            for name in ('0', 'features')
        )
    }
    method.load_carried_state(state)
    return method, state


# The loss -------------------------------------------------------------------


def unit64(half):
    rows = half.features.detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_loss_against_float64():
    method, state = set_up(w_f=0.7, w_r=0.3, beta=0.2, bound=5.0)
    forget = Half(1.5, 0.5, labels=(0, 1, 0, 1), seed=1)
    retain = Half(0.4, 0.2, labels=(2, 3, 3), seed=2)
    p_f, p_r = (state[f'{k}.features'].numpy() for k in ('forget', 'retain'))
    inside = unit64(forget) @ p_f
    nuclear = np.linalg.svd(inside, compute_uv=False).sum() / np.sqrt(4)
    rows = unit64(retain)
    outside = np.linalg.norm(rows - rows @ p_r @ p_r.T) / np.sqrt(3)
    expected = 0.6 + 0.2 * (3.5 + 0.5) + 0.7 * nuclear + 0.3 * outside
    value = total(losses_of(method, forget, retain)).item()
    assert value == pytest.approx(expected, rel=1e-6)


def test_by_default_nothing_but_features_is_pushed():
    method, _ = set_up()
    forget, retain = Half(1.5, 0.5), Half(0.4, 0.2)
    total(losses_of(method, forget, retain)).backward()
    assert forget.loss_cls.grad == forget.loss_rest.grad == 0
    assert forget.features.grad.any()
    assert retain.loss_cls.grad == retain.loss_rest.grad == 1


def test_zero_for_features_where_they_should_be():
    method, state = set_up(w_f=1.0, w_r=1.0)
    forget, retain = Half(0.0), Half(0.0)
    with torch.no_grad():
        forget.features.copy_(
            project_out(forget.features, state['forget.features'])
        )
        inside = state['retain.features']
        retain.features.copy_(retain.features @ inside @ inside.t())
    losses = losses_of(method, forget, retain)
    assert losses['inside_forget'].item() == pytest.approx(0, abs=1e-6)
    assert losses['loss_outside_retain'].item() == pytest.approx(0, abs=1e-6)
    # And for all of the length inside, it is that of the features.
    forget.features = state['forget.features'].t()[[0, 0, 0]]
    assert losses_of(method, forget, retain)['inside_forget'].item() == (
        pytest.approx(1, rel=1e-6)
    )


def test_a_step_down_empties_the_forget_subspace():
    method, state = set_up(w_f=1.0, w_r=1.0)
    forget, retain = Half(0.0, seed=1), Half(0.0, seed=2)
    before = losses_of(method, forget, retain)
    total(before).backward()
    for half in (forget, retain):
        half.features = half.features - 0.05 * half.features.grad
    after = losses_of(method, forget, retain)
    assert after['inside_forget'] < before['inside_forget']
    assert after['loss_outside_retain'] < before['loss_outside_retain']


def test_norms_do_not_grow_with_the_batch():
    method, _ = set_up(w_f=1.0, w_r=1.0)
    one = Half(0.0, labels=(0, 1))
    four = Half(0.0, labels=(0, 1) * 4)
    four.features = one.features.repeat(4, 1)
    few, many = losses_of(method, one, one), losses_of(method, four, four)
    for name, value in few.items():
        assert many[name].item() == pytest.approx(value.item(), rel=1e-6)


def test_no_rows_are_no_loss():
    method, _ = set_up()
    forget, retain = Half(0.0, labels=()), Half(0.0, labels=())
    losses = losses_of(method, forget, retain)
    total(losses).backward()
    assert losses['inside_forget'] == losses['loss_outside_retain'] == 0


def test_half_precision_features():
    method, _ = set_up()
    half = Half(0.0)
    expected = losses_of(method, half, half)['inside_forget'].item()
    half.features = half.features.detach().bfloat16().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = losses_of(method, half, half)
    assert losses['inside_forget'].item() == pytest.approx(expected, rel=0.02)


# Subspaces and updates ------------------------------------------------------


def start_step(task, state=None, seed=0, **settings):
    model = tiny_model(task, FG_ORIU | settings, seed=seed)
    if state is not None:
        model.method.load_carried_state(state)
    model.method.prepare(model, TinyDataset(task))
    return model


def train_with_adamw(model, batch, iterations=5):
    """Its steps are not along the gradients, and weights decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    wrapper = OptimWrapper(optimizer)
    for _ in range(iterations):
        log = model.train_step(
            dict(
                inputs=batch['inputs'],
                data_samples=[s.clone() for s in batch['data_samples']],
            ),
            wrapper,
        )
        model.method.after_update(optimizer)
    return log


@pytest.mark.parametrize('task', TASKS)
def test_updates_leave_what_is_retained_alone(task):
    model = start_step(task, beta=0.1)
    log = train_with_adamw(model, tiny_batch(task))
    assert all(value.isfinite() for value in log.values())
    state = model.method.carried_state()
    for name, layer in model.method.layers.items():
        protected = state[f'retain.{name}']
        assert 0 < protected.shape[1] < layer.in_features
        update = layer.delta_weight()
        assert update.norm() > 0
        assert (update @ protected).norm() < 1e-5 * update.norm()


def test_gradients_are_projected_before_the_optimizer_sees_them():
    method, state = set_up()
    layer = method.layers['0']
    grad = torch.randn(2, 6, dtype=torch.double)
    layer.lora_A.grad = grad.clone()
    method.before_update()
    protected = state['retain.0']
    expected = grad - grad @ protected @ protected.t()
    torch.testing.assert_close(layer.lora_A.grad, expected)
    assert layer.lora_B.grad is None


def test_what_was_forgotten_before_is_left_alone_too():
    first = start_step('classification').method.carried_state()
    second = start_step('classification', first, seed=1)
    fresh = start_step('classification', seed=1).method.carried_state()
    state = second.method.carried_state()
    for name, layer in second.method.layers.items():
        protected = state[f'retain.{name}']
        for part in (fresh[f'retain.{name}'], first[f'forget.{name}']):
            assert project_out(part.t(), protected).abs().max() < 1e-4
        assert (layer.lora_A @ protected).abs().max() < 1e-5
        for part in (fresh[f'forget.{name}'], first[f'forget.{name}']):
            joint = state[f'forget.{name}']
            assert project_out(part.t(), joint).abs().max() < 1e-4
    # Retained features make their subspace anew.
    torch.testing.assert_close(
        state['retain.features'], fresh['retain.features']
    )
    assert (
        state['forget.features'].shape[1] > (fresh['forget.features'].shape[1])
    )


def test_state_round_trip():
    state = start_step('classification').method.carried_state()
    other = tiny_model('classification', FG_ORIU).method
    other.load_carried_state(state)
    found = other.carried_state()
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    'change',
    [
        lambda state: state.pop('retain.features'),
        lambda state: state.pop('forget.0'),
        lambda state: state.update({'retain.0': torch.zeros(5, 2)}),
    ],
)
def test_another_state_is_refused(change):
    method, state = set_up()
    change(state)
    with pytest.raises(ValueError, match='subspaces are of layers'):
        method.load_carried_state(state)


# Bad settings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(energy=1.0), r'method.energy = 1.0.*\(0, 1\)'),
        (dict(energy='most'), "method.energy = 'most'"),
        (dict(w_f=-1.0), 'method.w_f = -1.0'),
        (dict(w_r=float('nan')), 'method.w_r = nan'),
        (dict(batch_size=0), 'method.batch_size = 0'),
        (dict(beta=-0.1), 'method.beta'),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        FGOrIU(**settings)


def test_an_adapter_is_needed():
    with pytest.raises(ConfigError, match='adapter = None: FGOrIU'):
        FGOrIU().setup(FakeModel())


def test_something_has_to_be_left_to_train():
    state = start_step('classification').method.carried_state()
    for name, found in state.items():
        state[name] = torch.eye(len(found))
    with pytest.raises(ConfigError, match='method.energy = 0.99.*lower it'):
        start_step('classification', state)


def test_layers_that_are_not_called_are_named():
    model = tiny_model('classification', FG_ORIU)
    model.method.layers['odd'] = LoRALinear(4, 4)
    with pytest.raises(ConfigError, match='adapter.target: odd is not call'):
        model.method.prepare(model, TinyDataset('classification'))


# In a sequence --------------------------------------------------------------


def test_forgets_and_resumes(tmp_path, monkeypatch):
    """Killed in the second step: subspaces come from the files."""
    monkeypatch.setattr(
        'gslora_mm.reports.report._draw_pictures', lambda *args: False
    )
    inputs = make_class_inputs(tmp_path / 'inputs')

    def sequence(name):
        cfg = tiny_class_sequence(
            inputs, tmp_path / name, forgetting__steps=[['red'], ['cyan']]
        )
        cfg.method = FG_ORIU
        return cfg

    report = ForgettingSequence(sequence('whole')).run()
    for step in report['steps']:
        assert step['forget_score'] <= 0.2 and step['retain_score'] >= 0.8
    assert report['steps'][1]['old_score'] <= 0.2
    first, second = (
        load_tensors(tmp_path / f'whole/step_0{n}/method.safetensors', '')[0]
        for n in (1, 2)
    )
    for name, found in first.items():
        if name.startswith('forget.'):
            assert project_out(found.t(), second[name]).abs().max() < 1e-4

    hook = killed_after(34)  # of 24 each, with a save every 8
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepCheckpointHook, 'after_train_iter', hook)
        ForgettingSequence(sequence('killed')).run()
    resumed = ForgettingSequence(sequence('killed'), resume=True).run()
    assert json.dumps(comparable(resumed)) == json.dumps(comparable(report))
