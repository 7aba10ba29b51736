"""What the runner adds to MMEngine's."""

import gc
from multiprocessing.process import BaseProcess

import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from gslora_mm.engine import ForgettingSequence
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
