"""Parts of a run: how they are counted, and that all of them are."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner, ValLoop
from torch.utils.data import DataLoader

from gslora_mm import reports
from gslora_mm.bench.iterations import measure, save_trace
from gslora_mm.bench.stopwatch import Stopwatch
from gslora_mm.bench.whole_way import (
    WHOLE,
    iteration_table,
    time_sequence,
    whole_table,
)
from gslora_mm.sequence import run
from gslora_mm.training import BFloat16OptimWrapper, ForgettingModel
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.sequences import make_inputs, no_pictures, tiny_sequence  # noqa: F401


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_part_inside_another_counts_for_itself(clock):
    watch = Stopwatch(clock)
    with watch.part('other'):
        clock.now += 1
        with watch.part('head and loss'):
            clock.now += 2
            with watch.part('trunk'):
                clock.now += 4
            with watch.part('head and loss'):
                clock.now += 8
        clock.now += 16
    assert watch.seconds == {'other': 17, 'head and loss': 10, 'trunk': 4}
    assert watch.take() == {'other': 17, 'head and loss': 10, 'trunk': 4}
    assert watch.seconds == {}


def test_what_is_between_counts_for_nothing(clock):
    watch = Stopwatch(clock)
    for _ in range(2):
        with watch.part('data'):
            clock.now += 1
        clock.now += 100
    assert watch.seconds == {'data': 2}


def test_an_evaluation_is_one_part(clock):
    watch = Stopwatch(clock)
    with watch.part('evaluation'), watch.part('trunk'):
        clock.now += 3
    assert watch.seconds == {'evaluation': 3}


def test_an_error_ends_its_part(clock):
    watch = Stopwatch(clock)
    with watch.part('other'):
        with pytest.raises(ZeroDivisionError), watch.part('data'):
            clock.now += 1
            raise ZeroDivisionError
        clock.now += 2
    assert watch.seconds == {'data': 1, 'other': 2}


@pytest.mark.parametrize('kind', [OptimWrapper, BFloat16OptimWrapper])
def test_an_iteration_of_any_training(kind):
    layer = torch.nn.Linear(2, 1)
    wrapper = kind(torch.optim.SGD(layer.parameters(), lr=0.1))
    watch = Stopwatch()
    batches = DataLoader(torch.ones(4, 2), batch_size=2)
    with watch.watching_training(), watch.part('other'):
        for batch in batches:  # and its end, which is an exception
            with wrapper.optim_context(layer):
                loss = layer(batch).sum()
            wrapper.update_params(loss)
    assert {*watch.seconds} == {
        'other',
        'data',
        'head and loss',
        'backward',
        'optimizer',
    }
    assert min(watch.seconds.values()) > 0


def test_the_code_is_left_as_it_was():
    def places():
        return [
            vars(cls).get(name)
            for cls in (OptimWrapper, AmpOptimWrapper, BFloat16OptimWrapper)
            for name in ('optim_context', 'backward', 'step', 'zero_grad')
        ] + [
            ForgettingModel.__init__,
            Runner.val,
            ValLoop.run,
            run.check_sequence,
            reports.write_report,
        ]

    before = places()
    with Stopwatch().watching_sequence():
        assert places() != before
    assert places() == before


def test_variants_run_in_turn_after_a_warm_up(clock):
    watch = Stopwatch(clock)
    order = []

    def make(name, seconds):
        def step():
            order.append(name)
            with watch.part('trunk'):
                clock.now += seconds

        return step

    found = measure({'a': make('a', 1), 'b': make('b', 2)}, watch, 2)
    assert order == ['a', 'b'] * 3
    assert found == {
        'a': [{'trunk': 1, 'whole': 1}] * 2,
        'b': [{'trunk': 2, 'whole': 2}] * 2,
    }


def test_a_trace_shows_the_parts(tmp_path):
    watch = Stopwatch()

    def step():
        with watch.part('Transformer'):
            torch.ones(2, 2) @ torch.ones(2, 2)

    save_trace(step, str(tmp_path / 'trace.json'))
    events = json.loads((tmp_path / 'trace.json').read_text())['traceEvents']
    names = {event.get('name') for event in events}
    assert {'Transformer', 'aten::mm'} <= names


def test_tables_have_a_dash_for_what_there_is_not():
    table = iteration_table(
        {'forward pass': {'trunk': 1.5, 'whole': 1.5}, 'adapter': {'data': 2}}
    )
    rows = [line.split() for line in table.splitlines()]
    assert '| trunk | 1.500 | - |'.split() in rows
    assert '| data | - | 2.000 |'.split() in rows
    table = whole_table(
        dict(
            seconds={'start': 1, 'trunk': 2, 'other': 1},
            total=4,
            iterations=10,
            steps=1,
        )
    )
    rows = [line.split() for line in table.splitlines()]
    assert '| trunk | 2.00 | 50.0 % | 200.0 |'.split() in rows
    assert '| start | 1.00 | 25.0 % | - |'.split() in rows
    assert '| report | - | - | - |'.split() in rows


def test_a_sequence_that_cannot_run_says_why():
    cfg = Config(
        dict(forgetting=dict(steps=[['cat']]), schedule=dict(max_iters=9))
    )
    found = time_sequence(cfg, 1, 2, 0.5)
    assert {*found} == {'reason'} and 'config' in found['reason']
    assert whole_table(found).count(' - ') >= 30
    assert cfg.schedule.max_iters == 9


@pytest.mark.parametrize('kind', ['detector', 'classifier'])
def test_the_whole_way(kind, tmp_path):
    if kind == 'detector':
        cfg = tiny_sequence(make_inputs(tmp_path), tmp_path / 'run')
        transformer = {'Transformer'}
    else:
        inputs = make_class_inputs(tmp_path)
        cfg = tiny_class_sequence(
            inputs,
            tmp_path / 'run',
            schedule__max_iters=None,
            schedule__max_epochs=50,
        )
        transformer = set()  # a part of the trunk
    before = {*tmp_path.iterdir()}
    found = time_sequence(cfg, steps=1, iterations=2, start=0.5)
    assert 'reason' not in found
    assert (found['steps'], found['iterations']) == (1, 2)
    assert {*found['seconds']} == {*WHOLE} - {'Transformer'} | transformer
    assert sum(found['seconds'].values()) == pytest.approx(
        found['total'], rel=0.05
    )
    assert {*tmp_path.iterdir()} == before
    assert len(cfg.forgetting.steps) == 2
