"""What the runner adds to MMEngine's."""

import gc
from multiprocessing.process import BaseProcess
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import RUNNERS, init_default_scope
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.training import ForgettingModel
from gslora_mm.training.runner import Runner
from tests.classifiers import tiny_classifier_config
from tests.processes import on_two_processes
from tests.sequences import tiny_sequence


@pytest.mark.parametrize('persistent', [True, False])
def test_loading_processes_leave_by_themselves(
    inputs, tmp_path, monkeypatch, persistent
):
    """Those that do not are killed after five seconds, loader by loader."""
    stop = _MultiProcessingDataLoaderIter._shutdown_workers
    stopped, killed = [], []

    def watched(self):
        stopped.extend([] if self._shutdown else self._workers)
        stop(self)

    monkeypatch.setattr(
        _MultiProcessingDataLoaderIter, '_shutdown_workers', watched
    )
    monkeypatch.setattr(
        BaseProcess, 'terminate', lambda worker: killed.append(worker)
    )
    settings = {
        f'{loader}__{key}': value
        for loader in ('train_dataloader', 'val_dataloader')
        for key, value in (
            ('num_workers', 1),
            ('persistent_workers', persistent),
        )
    }
    cfg = tiny_sequence(
        inputs, tmp_path / 'run', forgetting__steps=[['one']], **settings
    )
    ForgettingSequence(cfg).run()
    gc.collect()
    # The pre-trained model's evaluation, the training and its evaluation.
    assert len(stopped) == 3 and not killed


def test_no_workers_cannot_persist():
    """Many configs set num_workers=0 and leave persistent_workers=True."""
    loader = Runner.build_dataloader(
        dict(
            dataset=[0, 1, 2],
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=2,
            num_workers=0,
            persistent_workers=True,
        ),
        seed=0,
    )
    assert len(list(loader)) == 2 and not loader.persistent_workers


def trained_and_averages(rank):
    """Of a process that draws an adapter of its own."""
    init_default_scope('mmpretrain')
    torch.manual_seed(rank)
    model = ForgettingModel(
        tiny_classifier_config('vit'),
        dict(type='gslora_mm.ClassificationTask'),
        dict(type='gslora_mm.SCRUBS'),
        dict(rank=2),
    )
    Runner.wrap_model(SimpleNamespace(distributed=True), None, model)
    trained = [p.detach() for p in model.parameters() if p.requires_grad]
    return trained, list(model.method.buffers())


def test_all_processes_begin_with_what_the_first_has(tmp_path):
    """With randomness.diff_rank_seed, averages of a method included."""
    ranks = on_two_processes(trained_and_averages, tmp_path)
    for first, second in zip(*ranks, strict=True):
        assert len(first) > 2
        for one, other in zip(first, second, strict=True):
            assert torch.equal(one, other)


def test_configs_of_before_name_it_otherwise():
    for name in ('gslora_mm.Runner', 'gslora_mm.QuietRunner'):
        assert RUNNERS.get(name) is Runner
