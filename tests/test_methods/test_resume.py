"""Steps of methods that prepare themselves, killed and resumed."""

import pytest
import torch

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.training.hooks import StepCheckpointHook
from gslora_mm.utils.checkpoint import load_checkpoint
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.killed import Killed, killed_after


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    return make_class_inputs(tmp_path_factory.mktemp('inputs'))


@pytest.mark.parametrize(
    ('method', 'adapter', 'given'),
    [
        ('Retrain', None, {}),
        ('RandomDrop', None, {}),
        ('EWC', None, {}),
        ('LwF', None, {}),
        ('EWC', dict(rank=2), {}),
        # Resumed, it draws the same images anew.
        ('MaskedDistillation', dict(rank=2), dict(forget_share=0)),
        # The noise is mixed in once.
        ('NoiseAndDistil', None, {}),
    ],
)
def test_killed_and_resumed(
    inputs, tmp_path, monkeypatch, method, adapter, given
):
    """In the middle of a step: it ends with the model of a whole one."""
    monkeypatch.setattr(
        'gslora_mm.reports.report._draw_pictures', lambda *args: False
    )

    def sequence(name, resume=False):
        cfg = tiny_class_sequence(
            inputs,
            tmp_path / name,
            forgetting__steps=[['red', 'cyan']],
            schedule__max_iters=4,
            schedule__checkpoint_interval=2,
        )
        cfg.method = dict(type=f'gslora_mm.{method}')
        cfg.adapter = adapter
        cfg.forgetting.update(given)
        return ForgettingSequence(cfg, resume=resume)

    sequence('whole').run()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepCheckpointHook, 'after_train_iter', killed_after(2))
        sequence('killed').run()
    assert (tmp_path / 'killed/step_01/resume.pth').exists()
    sequence('killed', resume=True).run()
    whole, resumed = (
        load_checkpoint(tmp_path / name / 'step_01/merged.pth')['state_dict']
        for name in ('whole', 'killed')
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
