"""What the runner adds to MMEngine's."""

import gc

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
    exits = []

    def watched(self):
        first = not self._shutdown
        stop(self)
        if first:
            exits.extend(worker.exitcode for worker in self._workers)

    monkeypatch.setattr(
        _MultiProcessingDataLoaderIter, '_shutdown_workers', watched
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
    assert exits == [0, 0, 0]
