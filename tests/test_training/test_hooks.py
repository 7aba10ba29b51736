import time
from types import SimpleNamespace

import pytest
import torch

from gslora_mm.lora import inject_lora, lora_layers
from gslora_mm.methods import (
    CounterfactualDistillation,
    GSLoRA,
    KnowledgeSwapping,
    NoiseAndDistil,
)
from gslora_mm.training.auto_schedule import AutoSchedule
from gslora_mm.training.held_out import Look
from gslora_mm.training.hooks import (
    AdapterEMAHook,
    AutoScheduleHook,
    ForgettingEarlyStopHook,
    MethodHook,
)
from gslora_mm.utils import ConfigError
from tests.processes import on_two_processes


class Runner:
    """What the hooks read of a runner."""

    def __init__(self, model=None, max_iters=100):
        self.model = model
        self.iter = 0
        self.max_iters = max_iters
        self.train_loop = SimpleNamespace(stop_training=False)
        self.logger = SimpleNamespace(info=lambda line: None)


def train_with_ema(values, **settings):
    """A parameter that takes the values in turn, averaged."""
    model = torch.nn.Linear(1, 1, bias=False)
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    model.frozen = frozen
    hook, runner = AdapterEMAHook(**settings), Runner(model)
    for runner.iter, value in enumerate(values):
        model.weight.data.fill_(value)
        hook.after_train_iter(runner, runner.iter)
    return hook, runner, model


def test_average_by_hand():
    hook, runner, model = train_with_ema([1.0, 2.0, 4.0], decay=0.5)
    hook.after_train(runner)
    # 1, then (1 + 2) / 2, then (1.5 + 4) / 2
    assert model.weight.item() == pytest.approx(2.75)
    assert set(hook.average) == {'weight'}


def test_average_begins_late_and_skips():
    hook, runner, model = train_with_ema(
        [9.0, 9.0, 1.0, 9.0, 2.0], decay=0.5, begin_iter=1, interval=2
    )
    hook.after_train(runner)
    # Iterations 3 and 5 count: 1, then (1 + 2) / 2
    assert model.weight.item() == pytest.approx(1.5)


def test_average_begins_after_a_number_of_epochs():
    hook = AdapterEMAHook(begin_epoch=3, begin_iter=5)
    runner = Runner()
    runner.train_dataloader = SimpleNamespace(
        sampler=SimpleNamespace(iterations_per_epoch=7)
    )
    hook.before_train(runner)
    assert hook.begin_iter == 21


def test_an_average_that_never_began_changes_nothing():
    hook, runner, model = train_with_ema([3.0], begin_iter=10)
    hook.after_train(runner)
    assert model.weight.item() == 3.0


def test_average_survives_a_checkpoint():
    hook, runner, model = train_with_ema([1.0, 2.0], decay=0.5)
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    resumed = AdapterEMAHook(decay=0.5)
    resumed.after_load_checkpoint(runner, checkpoint)
    resumed.after_train(runner)
    assert model.weight.item() == pytest.approx(1.5)


def test_a_method_knows_how_long_a_step_is():
    method = SimpleNamespace()
    runner = Runner(SimpleNamespace(method=method), max_iters=30)
    runner.train_dataloader = SimpleNamespace(
        sampler=SimpleNamespace(iterations_per_epoch=7)
    )
    MethodHook().before_train(runner)
    assert method.iterations_per_epoch == 7
    assert method.max_iters == 30


@pytest.mark.parametrize(
    'settings',
    [
        dict(decay=1.0),
        dict(begin_iter=-1),
        dict(begin_epoch=-1),
        dict(interval=0),
    ],
)
def test_bad_settings_of_the_average(settings):
    ((name, value),) = settings.items()
    message = f'^AdapterEMAHook.{name} = {value}: must be '
    with pytest.raises(ConfigError, match=message):
        AdapterEMAHook(**settings)


def stopped_at(forget, retain, **settings):
    """Iteration at which training stops, None if it does not."""
    hook, runner = ForgettingEarlyStopHook(**settings), Runner()
    for runner.iter, pair in enumerate(zip(forget, retain, strict=True)):
        outputs = dict(
            zip(
                ('loss_forget', 'loss_retain'),
                map(torch.tensor, pair),
                strict=True,
            )
        )
        hook.after_train_iter(runner, runner.iter, outputs=outputs)
        if runner.train_loop.stop_training:
            return runner.iter + 1
    return None


def test_stops_once_forgotten_and_stable():
    forget = [1.0] * 4 + [0.0] * 6
    assert stopped_at(forget, [2.0] * 10, window=2) == 6


def test_goes_on_while_something_is_left_to_forget():
    assert stopped_at([0.5] * 10, [2.0] * 10, window=2) is None


def test_what_grows_below_zero_is_not_forgotten():
    """As the loss of NegGrad+ does from its first iteration on."""
    assert stopped_at([-0.005] * 10, [2.0] * 10, window=2) is None
    assert stopped_at([0.005, -0.005] * 5, [2.0] * 10, window=2) is None


def test_goes_on_while_the_rest_still_moves():
    retain = [10.0 - i for i in range(10)]
    assert stopped_at([0.0] * 10, retain, window=2) is None


def test_iterations_that_do_not_forget_do_not_count():
    """As of a method that learns first."""
    hook, runner = ForgettingEarlyStopHook(window=2), Runner()
    losses = dict(loss_forget=torch.zeros(()), loss_retain=torch.ones(()))
    for runner.iter in range(10):
        hook.after_train_iter(
            runner, runner.iter, outputs=dict(loss_retain=torch.ones(()))
        )
    for runner.iter in range(10, 13):
        hook.after_train_iter(runner, runner.iter, outputs=losses)
        assert not runner.train_loop.stop_training
    hook.after_train_iter(runner, 13, outputs=losses)
    assert runner.train_loop.stop_training


def test_never_stops_before_the_minimum():
    assert stopped_at([0.0] * 9, [1.0] * 9, window=1, min_iters=7) == 7


def auto_runner(method, *groups, given_lr=None, **config):
    """A runner with a model that is trained in groups of parameters."""
    model = torch.nn.Linear(1, 1)
    model.method = method
    runner = Runner(model, max_iters=10**6)
    runner.train_dataloader = SimpleNamespace(
        sampler=SimpleNamespace(dataset=None)
    )
    optimizer = torch.optim.AdamW(
        [
            {'params': [parameter], 'lr': lr}
            for parameter, lr in zip(model.parameters(), groups, strict=True)
        ],
        lr=groups[0],
    )
    runner.optim_wrapper = SimpleNamespace(optimizer=optimizer)
    runner.cfg = SimpleNamespace(
        model=SimpleNamespace(method=config),
        optim_wrapper=SimpleNamespace(optimizer=dict(lr=given_lr)),
    )
    return runner


def rates(runner):
    return [g['lr'] for g in runner.optim_wrapper.optimizer.param_groups]


def test_groups_keep_their_share_of_the_rate():
    """Those of ``paramwise_cfg``, also of a run that goes on."""
    course = [dict(since=0, phase='push', lr=0.08)]
    found = dict(settings={}, course=course)
    runner = auto_runner(GSLoRA(), 0.02, 0.002)
    hook = AutoScheduleHook(found=found)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert rates(runner) == pytest.approx([0.08, 0.008])
    saved = runner.optim_wrapper.optimizer.state_dict()
    resumed = auto_runner(GSLoRA(), 0.02, 0.002)
    resumed.optim_wrapper.optimizer.load_state_dict(saved)
    hook = AutoScheduleHook(found=found)
    hook.before_train(resumed)
    hook.before_train_iter(resumed, 0)
    assert rates(resumed) == pytest.approx([0.08, 0.008])


def test_what_is_taken_back_is_taken_from_the_adapter():
    course = [
        dict(since=0, phase='push', lr=0.08),
        dict(since=5, phase='end', lr=0.08, kept=0.75),
    ]
    runner = auto_runner(GSLoRA(), 0.02, 0.002)
    adapted = torch.nn.Sequential(torch.nn.Linear(3, 3))
    inject_lora(adapted, rank=2, target='0')
    (layer,) = lora_layers(adapted).values()
    torch.nn.init.ones_(layer.lora_B)
    runner.model.model = adapted
    hook = AutoScheduleHook(found=dict(settings={}, course=course))
    hook.before_train(runner)
    for runner.iter, expected in ((3, 1.0), (4, 0.75), (5, 0.75)):
        hook.after_train_iter(runner, 0)
        assert (layer.lora_B == expected).all()
    assert runner.train_loop.stop_training


@pytest.mark.parametrize(('is_spared', 'kept'), [(True, 0.75), (False, 1.0)])
def test_images_that_are_trained_on_have_less_of_a_say(is_spared, kept):
    adapted = torch.nn.Sequential(torch.nn.Linear(3, 3))
    model = SimpleNamespace(groups=inject_lora(adapted, rank=2, target='0'))
    model.model = adapted
    hook = AutoScheduleHook()
    hook.schedule = AutoSchedule()
    look = Look(named=0.0, surety=0.004, loss=None)
    hook.images = SimpleNamespace(
        is_spared=is_spared, look=lambda *_, **__: look
    )
    hook._take_part(model)
    assert hook.schedule.now.kept == kept


def test_a_given_setting_of_the_method_is_kept(monkeypatch):
    monkeypatch.setattr(GSLoRA, 'find_settings', lambda *_: {'bound': 3.0})
    monkeypatch.setattr(AutoScheduleHook, '_look', lambda *_: Look(1, 1, None))
    monkeypatch.setattr(
        'gslora_mm.training.hooks.auto_schedule_hook.HeldOut', lambda *_: None
    )
    for given, settings in (({}, {'bound': 3.0}), ({'bound': 7.0}, {})):
        method = GSLoRA(**given)
        hook = AutoScheduleHook()
        hook.before_train(auto_runner(method, 0.1, 0.1, **given))
        assert hook.settings == settings
        assert method.bound == {**given, **settings}['bound']
        assert method.forgetting_loss.bound == method.bound


def test_a_loss_is_built_anew_for_another_bound_alone():
    method = GSLoRA()
    loss = method.forgetting_loss
    method.take_settings({'beta': 0.3})
    assert method.forgetting_loss is loss
    method.take_settings({'bound': 3.0})
    assert method.forgetting_loss.bound == 3.0


def decided(rank):
    """The limit and the look of a process that is slower and sees more."""
    hook, runner = AutoScheduleHook(minutes=1.0), Runner(max_iters=10**6)
    hook._start = time.perf_counter() - 10.0 * (rank + 1), 0
    look = Look(rank / 2, rank / 2, None)
    hook.images = SimpleNamespace(is_spared=True, look=lambda *_, **__: look)
    return [hook._limit(runner, 10), *hook._look(runner, 10)[:2]]


def test_all_processes_decide_the_same(tmp_path):
    first, second = on_two_processes(decided, tmp_path)
    assert first == second
    assert first[0] == pytest.approx(60, abs=2)
    assert first[1:] == [0, 0]


def test_methods_of_which_nothing_can_be_watched():
    AutoScheduleHook.check_method(GSLoRA())
    with pytest.raises(ConfigError, match="'KnowledgeSwapping' pushes none"):
        AutoScheduleHook.check_method(KnowledgeSwapping())
    AutoScheduleHook.check_method(CounterfactualDistillation())
    with pytest.raises(ConfigError, match='lost most of everything; take'):
        AutoScheduleHook.check_method(NoiseAndDistil())
