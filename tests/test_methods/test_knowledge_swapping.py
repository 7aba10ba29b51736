"""Knowledge Swapping: GS-LoRA's loss, and what counts of it when."""

import numpy as np
import pytest
import torch
from torch import nn

from gslora_mm.methods import GSLoRA, KnowledgeSwapping
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    TASKS,
    FakeModel,
    Half,
    Unread,
    losses_of,
    tiny_batch,
    tiny_model,
    total,
    train,
)

GROUP = [3.0, 4.0, 12.0]


def set_up(cls=KnowledgeSwapping, iteration=0, **settings):
    method = cls(**settings)
    group = nn.Parameter(torch.tensor(GROUP, dtype=torch.double))
    method.setup(FakeModel(groups=dict(a=[group])))
    method.max_iters = 20
    method.iteration = iteration
    return method


def test_learning_against_float64():
    method = set_up(alpha_s=0.1, learn_share=0.25, iteration=4)
    retain = Half(0.4, 0.2)
    losses = losses_of(method, Unread(), retain)
    expected = 0.4 + 0.2 + 0.1 * np.linalg.norm(GROUP)
    assert total(losses).item() == pytest.approx(expected, rel=1e-12)
    assert 'loss_forget' not in losses


@pytest.mark.parametrize('share', [0.25, 0.0])
def test_then_it_is_gs_lora(share):
    settings = dict(beta=0.3, bound=5.0, alpha_s=0.1)
    method = set_up(learn_share=share, iteration=int(20 * share), **settings)
    other = set_up(GSLoRA, **settings)
    halves = Half(1.5, 0.7), Half(0.4, 0.2)
    losses = losses_of(method, *halves)
    expected = 0.6 + 0.3 * (3.5 + 0.7) + 0.1 * np.linalg.norm(GROUP)
    assert total(losses).item() == pytest.approx(expected, rel=1e-12)
    assert losses == losses_of(other, *halves)


def test_learning_ends_with_its_share_of_the_step():
    stages = [
        set_up(learn_share=0.3, iteration=i).is_learning for i in range(20)
    ]
    assert stages == [True] * 6 + [False] * 14


@pytest.mark.parametrize('share', [1.0, -0.1, 'half', None])
def test_bad_shares_are_named(share):
    with pytest.raises(ConfigError, match='method.learn_share = .*0, 1'):
        KnowledgeSwapping(learn_share=share)


def test_an_adapter_is_needed():
    with pytest.raises(ConfigError, match='adapter = None: KnowledgeSw'):
        KnowledgeSwapping().setup(FakeModel())


@pytest.mark.parametrize('task', TASKS)
def test_trains_a_real_model_in_both_stages(task):
    model = tiny_model(
        task, dict(type='gslora_mm.KnowledgeSwapping', learn_share=0.5)
    )
    model.method.max_iters = 2
    batch = tiny_batch(task)
    first = train(model, batch, 1)
    then = train(model, batch, 2)
    assert 'loss_forget' not in first and 'loss_forget' in then
    for log in (first, then):
        assert all(value.isfinite() for value in log.values())
