"""Settings of a method are fields; methods of before still work."""

import copy
import dataclasses
import inspect
import pickle
from typing import Literal

import pytest
import torch

from gslora_mm.methods import (
    LIRF,
    SCRUB,
    SCRUBS,
    BaseMethod,
    GSLoRA,
    LwF,
    NonNegative,
    PerStep,
    Positive,
)
from gslora_mm.methods.ingredients.losses import LossConfig
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError


class Fields(BaseMethod):
    name = 'fields'
    must: PerStep[NonNegative]
    beta: PerStep[NonNegative] = 1.0
    bound: PerStep[Positive | None] = None
    mode: Literal['a', 'b', None] = 'a'
    loss_a: LossConfig = 'gslora_mm.GroupSparsityLoss'

    def losses(self, forget, retain):
        yield {'loss_forget': self.beta * forget.loss}


class Child(Fields):
    """Another default, one more setting, and one that is required."""

    beta: PerStep[NonNegative] = 0.5
    temperature: Positive = 2.0
    last: int


class Written(BaseMethod):
    """With an ``__init__`` of its own, as all methods were once."""

    name = 'written'
    per_step = ('beta',)

    def __init__(self, beta: float, flag: bool = False) -> None:
        super().__init__()
        self.beta = beta
        self.flag = flag
        self.register_buffer('count', torch.tensor(0))


class BelowWritten(Written):
    """Inherits the ``__init__``."""

    per_step = (*Written.per_step, 'flag')


class WrittenOverFields(GSLoRA):
    strength: 'OnlyKnownToTypeCheckers'  # noqa: F821

    def __init__(self, extra: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.extra = extra
        self.strength = 2 * extra


class BelowWrittenOverFields(WrittenOverFields):
    another: float


def test_fields_are_keyword_arguments_with_defaults():
    method = Fields(must=2)
    assert (method.must, method.beta, method.mode) == (2, 1.0, 'a')
    assert method.loss_a == 'gslora_mm.GroupSparsityLoss'
    assert (method.iteration, method.max_iters) == (0, 1)
    with pytest.raises(TypeError, match='must'):
        Fields()
    with pytest.raises(TypeError, match='positional'):
        Fields(1.0)


def test_a_child_inherits_changes_and_adds():
    method = Child(must=0, last=3)
    assert (method.beta, method.temperature, method.last) == (0.5, 2.0, 3)
    assert Fields(must=0).beta == 1.0
    parameters = inspect.signature(Child).parameters
    assert list(parameters) == [
        *('must', 'beta', 'bound', 'mode', 'loss_a'),
        *('temperature', 'last'),
    ]
    assert parameters['beta'].default == 0.5 and Child.beta == 0.5


def test_which_settings_may_be_lists_follows_from_the_fields():
    assert Fields.per_step == Child.per_step == ('must', 'beta', 'bound')
    assert BaseMethod.per_step == ()
    assert Written.per_step == ('beta',)
    assert BelowWritten.per_step == ('beta', 'flag')
    assert WrittenOverFields.per_step == GSLoRA.per_step


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(beta=-1), 'method.beta = -1: must be a finite number >= 0'),
        (dict(bound=0), 'method.bound = 0: must be a finite number > 0'),
        (
            dict(mode='c'),
            "method.mode = 'c': must be one of ('a', 'b'), or None",
        ),
        (
            dict(temperature=[1, 2]),
            'method.temperature = [1, 2]: must be a finite number > 0',
        ),
    ],
)
def test_all_settings_are_checked(settings, message):
    with pytest.raises(ConfigError) as error:
        Child(**{'must': 1, 'last': 1, **settings})
    assert str(error.value) == message
    assert Child(must=1, last=1, bound=None, mode=None).mode is None


def test_methods_with_an_init_of_their_own():
    method = BelowWritten(0.3)
    assert (method.beta, method.flag, method.max_iters) == (0.3, False, 1)
    assert set(method.state_dict()) == {'count'}
    method = WrittenOverFields(extra=2.0, beta=0.3)
    assert (method.extra, method.beta, method.bound) == (2.0, 0.3, 15.0)
    with pytest.raises(ConfigError, match='method.beta = -1'):
        WrittenOverFields(beta=-1)


def test_annotations_beside_a_written_init_are_no_settings():
    method = BelowWrittenOverFields(extra=2.0, beta=0.3)
    assert (method.strength, method.beta) == (4.0, 0.3)
    names = {field.name for field in dataclasses.fields(method)}
    assert names == {field.name for field in dataclasses.fields(GSLoRA)}


def test_attributes_of_the_class_are_no_settings():
    class Annotated(Fields):
        name: str = 'annotated'
        needs: tuple = ('forget',)
        ends_at_zero: bool = False
        extra: Positive = 1.0

    assert list(inspect.signature(Annotated).parameters) == [
        *inspect.signature(Fields).parameters,
        'extra',
    ]
    method = Annotated(must=1)
    assert (method.name, method.needs) == ('annotated', ('forget',))
    assert not method.ends_at_zero and Fields.ends_at_zero


def test_a_subclass_takes_a_setting_out_of_those_per_step():
    class Once(GSLoRA):
        beta: NonNegative = 1.0

    class Listed(GSLoRA):
        per_step = ('loss_forget',)
        beta: NonNegative = 1.0

    class Again(Once):
        beta: PerStep[NonNegative] = 2.0

    without = tuple(name for name in GSLoRA.per_step if name != 'beta')
    assert 'beta' in GSLoRA.per_step and Once.per_step == without
    assert Listed.per_step == ('loss_forget', *without)
    assert Again.per_step == GSLoRA.per_step


def test_numbers_of_the_loss_may_be_lists():
    for method in (LwF, LIRF, SCRUB, SCRUBS):
        assert 'temperature' in method.per_step
    assert 'decay' in SCRUBS.per_step


@pytest.mark.parametrize(
    'part', ['forget_part', 'retain_part', 'structure_part', 'penalty']
)
def test_parts_that_nothing_calls_are_refused(part):
    with pytest.raises(TypeError, match=f'Mine.{part} is not called .*losses'):
        type('Mine', (GSLoRA,), {part: lambda self, half: {}})
    both = {part: lambda self, half: {}, 'losses': lambda self, f, r: []}
    assert type('Mine', (GSLoRA,), both)  # for its own use
    assert type('Mine', (GSLoRA,), {'penalty': 1.0})


@pytest.mark.parametrize(
    'make', [lambda: Child(must=1, last=2), lambda: Written(0.1)]
)
def test_copies(make):
    method = make()
    method.iteration = 7
    method.register_buffer('kept', torch.ones(2))
    for other in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
        assert type(other) is type(method)
        assert other.iteration == 7 and other.beta == method.beta
        assert other.kept is not method.kept
        assert torch.equal(other.kept, method.kept)


def test_it_is_a_module_with_an_identity():
    one, other = GSLoRA(), GSLoRA()
    assert one != other and len({one, other}) == 2
    assert 'GroupSparsityLoss' in repr(one)


def test_a_carried_state_that_is_not_carried_is_refused():
    with pytest.raises(TypeError, match='Lost .* carries_state = True'):

        class Lost(BaseMethod):
            def carried_state(self):
                return {}


def test_the_package_says_of_every_class_what_it_is():
    """Without an instance, as the sequence asks for it."""
    METHODS.import_from_location()
    for name, cls in METHODS.module_dict.items():
        if cls.__module__.startswith('gslora_mm.'):
            method = cls()
            assert cls.name and set(cls.needs) <= {'forget', 'retain'}, name
            assert set(cls.per_step) <= set(inspect.signature(cls).parameters)
            if not cls.carries_state:
                assert method.carried_state() == {}


def test_a_setting_without_a_type_is_refused():
    with pytest.raises(TypeError, match='Mine.beta needs its type'):

        class Mine(GSLoRA):
            beta = 0.5
