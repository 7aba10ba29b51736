"""One iteration of a ForgettingModel."""

import copy

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope

from gslora_mm.training import ForgettingModel
from tests.detectors import (
    random_batch,
    tiny_detector_config,
    with_level_embed,
)


@pytest.fixture
def model():
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = ForgettingModel(
        tiny_detector_config('deformable_detr'),
        dict(type='gslora_mm.DetectionTask'),
        dict(type='gslora_mm.GSLoRA', alpha_s=0.01),
        dict(rank=2),
    ).train()
    return with_level_embed(model)


@pytest.fixture
def batch():
    batch = random_batch(num_images=4)
    for index, sample in enumerate(batch['data_samples']):
        sample.set_metainfo(dict(role=('forget', 'retain')[index % 2]))
    return batch


def gradients(model):
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


class Recorder(torch.optim.SGD):
    """An optimizer that remembers the gradients of every update."""

    def __init__(self, model):
        parameters = [p for p in model.parameters() if p.requires_grad]
        super().__init__(parameters, lr=0.0)
        self.model, self.seen = model, []

    def step(self, closure=None):
        self.seen.append(gradients(self.model))


def test_parts_add_up_to_the_joint_loss(model, batch):
    optimizer = Recorder(model)
    torch.manual_seed(1)  # deformable attention has a dropout of its own
    log = model.train_step(batch, OptimWrapper(optimizer))
    torch.manual_seed(1)
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert log['loss'].item() == pytest.approx(total.item(), rel=1e-5)
    assert set(log) == {'loss', *losses}
    assert not log['loss'].requires_grad
    (seen,), expected = optimizer.seen, gradients(model)
    assert set(seen) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(seen[name], gradient, msg=name)


def test_a_trained_trunk_gets_the_gradients_of_both_halves(batch):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = ForgettingModel(
        tiny_detector_config('deformable_detr'),
        dict(type='gslora_mm.DetectionTask'),
        dict(type='gslora_mm.NegGradPlus', alpha=0.7),
    ).train()
    with_level_embed(model)
    assert not model.trunk_is_frozen
    state = copy.deepcopy(model.state_dict())  # of batch normalisations
    optimizer = Recorder(model)
    torch.manual_seed(1)
    model.train_step(batch, OptimWrapper(optimizer))
    model.load_state_dict(state)
    torch.manual_seed(1)
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    model.parse_losses(losses)[0].backward()
    (seen,), expected = optimizer.seen, gradients(model)
    assert any(name.startswith('model.backbone') for name in expected)
    assert set(seen) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            seen[name], gradient, rtol=1e-3, atol=1e-5, msg=name
        )


def test_a_method_sees_the_gradients_before_the_update(model, batch):
    optimizer = Recorder(model)
    seen = []
    model.method.before_update = lambda: seen.append(gradients(model))
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    for _ in range(2):
        model.train_step(batch, wrapper)
    assert len(seen) == 1
    for name, gradient in optimizer.seen[0].items():
        assert torch.equal(seen[0][name], gradient)


def test_the_first_half_is_freed_before_the_second_is_computed(model, batch):
    """What makes the memory of an iteration that of one half."""
    order = []
    half_of = model.task.half

    def half(*args):
        half = half_of(*args)
        losses_of = type(half).losses.func
        order.append(f'{half.role} asked for')
        half.__dict__['losses'] = Lazy(lambda: losses_of(half), half, order)
        return half

    class Lazy(dict):
        def __init__(self, compute, half, order):
            self.compute, self.half, self.order = compute, half, order

        def _fill(self):
            if not len(self):
                self.order.append(f'{self.half.role} computed')
                self.update(self.compute())

        def __getitem__(self, key):
            self._fill()
            return super().__getitem__(key)

        def items(self):
            self._fill()
            return super().items()

    class Wrapper(OptimWrapper):
        def backward(self, loss, **kwargs):
            order.append('backward')
            super().backward(loss, **kwargs)

    model.task.half = half
    model.train_step(batch, Wrapper(Recorder(model)))
    assert order == [
        'forget asked for',
        'retain asked for',
        'forget computed',
        'backward',
        'retain computed',
        'backward',
        'backward',  # structure
    ]


def test_an_update_after_every_second_iteration(model, batch):
    optimizer = Recorder(model)
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    for _ in range(4):
        torch.manual_seed(1)
        model.train_step(batch, wrapper)
    assert len(optimizer.seen) == 2

    once = Recorder(model)
    torch.manual_seed(1)
    model.train_step(batch, OptimWrapper(once))
    for name, gradient in once.seen[0].items():
        torch.testing.assert_close(optimizer.seen[0][name], gradient, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_mixed_precision_on_a_gpu(model, batch):
    model = model.cuda()
    optimizer = Recorder(model)
    log = model.train_step(batch, AmpOptimWrapper(optimizer=optimizer))
    assert log['loss'].isfinite()


def test_every_sample_needs_a_role(model):
    with pytest.raises(ValueError, match="role='forget' or 'retain'"):
        model.train_step(random_batch(), OptimWrapper(Recorder(model)))
