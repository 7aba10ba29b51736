"""Audits of the finished runs of a suite."""

import shutil
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from gslora_mm.audits import known_attacks
from gslora_mm.bench import depth
from gslora_mm.bench.depth import audit_runs, distances
from gslora_mm.bench.run import Outcome
from gslora_mm.bench.suite import Run
from gslora_mm.sequence import ForgettingSequence
from gslora_mm.utils import ConfigError
from tests.class_sequences import (
    CLASSES,
    make_class_inputs,
    tiny_class_sequence,
)

GONE = ('red', 'cyan', 'green')


def outcome(name, work_dir, seed=0, error=None):
    return Outcome(Run(name, {}, {}), seed, work_dir, error=error)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A run, one like it whose last model was retrained, and a broken one."""
    folder = tmp_path_factory.mktemp('depth')
    inputs = make_class_inputs(folder / 'inputs')
    cfg = tiny_class_sequence(inputs, folder / 'gs_lora')
    ForgettingSequence(cfg).run()
    torch.manual_seed(1)
    kept = [name for name in CLASSES if name not in GONE]
    make_class_inputs(folder / 'kept', kept)
    for name in ('retrain', 'broken'):
        shutil.copytree(folder / 'gs_lora', folder / name)
    shutil.copy(
        folder / 'kept/pretrained.pth', folder / 'retrain/step_02/merged.pth'
    )
    path = folder / 'broken/step_02/merged.pth'
    content = torch.load(path, weights_only=False)
    for value in content['state_dict'].values():
        value.fill_(float('nan'))
    torch.save(content, path)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    settings = dict(
        linear_probe=dict(shots=(2,), with_all=False),
        relearning=dict(shots=2, iterations=(1,), trained=('all',)),
        localisation={},
    )
    monkeypatch.setattr(depth, 'ATTACKS', settings)


def test_distances_to_what_was_retrained(runs, monkeypatch, tmp_path):
    outcomes = [
        outcome('gs_lora', runs / 'gs_lora'),
        outcome('broken', runs / 'broken'),
        outcome('retrain', runs / 'retrain'),
        outcome('other', runs / 'nothing', error='exit status 1'),
    ]
    lines = []
    found = audit_runs(
        outcomes, 'retrain', tmp_path / 'audit', say=lines.append
    )
    assert set(found) == {('gs_lora', 0), ('broken', 0), ('retrain', 0)}
    own = found['gs_lora', 0]
    assert set(own) == {'linear_probe', 'relearning'}  # it has no boxes
    for each in own.values():
        (reference,) = each['retrained']
        assert each['distance'] == pytest.approx(each['after'] - reference)
    assert own['linear_probe']['pretrained'] > 0.8
    reference = found['retrain', 0]
    assert all(each['distance'] == 0 for each in reference.values())
    # What is wrong with one run is told, and does not stop the others.
    assert 'not finite' in found['broken', 0]['error']
    assert 'failed' in lines[2] and 'retrain' in lines[3]
    # An audit of one's own stays what it was.
    assert not (runs / 'gs_lora/audit').exists()

    # Each in a process of its own, but the first.
    asked = []

    class Pool(ProcessPoolExecutor):
        def submit(self, function, work_dir, *args):
            asked.append(work_dir)
            return super().submit(function, work_dir, *args)

    monkeypatch.setattr(depth, 'ProcessPoolExecutor', Pool)
    at_a_time = audit_runs(
        outcomes, 'retrain', tmp_path / 'two', say=lines.append, jobs=2
    )
    assert at_a_time == found and list(at_a_time) == list(found)
    assert asked == [str(runs / name) for name in ('broken', 'retrain')]

    for cls in known_attacks().values():
        monkeypatch.setattr(cls, 'measure', None)
    again = audit_runs(
        [outcomes[0], outcomes[2]], 'retrain', tmp_path / 'audit', say=print
    )
    assert again['gs_lora', 0] == own
    monkeypatch.undo()


def test_references_of_ones_own(runs, tmp_path):
    outcomes = [outcome('gs_lora', runs / 'gs_lora')]
    with pytest.raises(ConfigError, match="audit: .*'retrain' be one of"):
        audit_runs(outcomes, 'retrain', tmp_path)
    given = str(runs / 'kept/pretrained.pth')
    found = audit_runs(outcomes, 'retrain', tmp_path, [given])
    assert found['gs_lora', 0]['relearning']['after'] >= 0
    knows = str(runs / 'inputs/pretrained.pth')
    with pytest.raises(ConfigError, match='--retrained.*this model knows'):
        audit_runs(outcomes, 'retrain', tmp_path, [knows])
    assert audit_runs([], 'retrain', tmp_path) == {}


def test_means_over_seeds():
    def audited(probe):
        return dict(audit=dict(linear_probe=dict(distance=probe)))

    found = distances(
        [audited(0.2), audited(0.4), dict(audit=dict(error='no')), {}]
    )
    assert found['linear_probe']['mean'] == pytest.approx(0.3)
    assert found['localisation'] == dict(mean=None, std=None)
