"""Whole sequences: files, chaining, resuming, seeds."""

import copy
import errno
import json
import os
import shutil

import filelock
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.visualization import LocalVisBackend

from gslora_mm.methods import GSLoRA
from gslora_mm.reports import comparable
from gslora_mm.sequence import ForgettingSequence, run_step
from gslora_mm.training import enable_amp
from gslora_mm.training.hooks import NonFiniteLossError, StepCheckpointHook
from gslora_mm.utils import ConfigError, SaveError, load_json, save_json
from gslora_mm.utils.checkpoint import load_checkpoint
from gslora_mm.work_dir import WorkDir
from tests.killed import Killed, killed_after
from tests.sequences import tiny_sequence


@pytest.fixture(scope='module')
def finished(inputs, tmp_path_factory):
    """A sequence that ran through, and its report."""
    work_dir = tmp_path_factory.mktemp('finished') / 'run'
    report = ForgettingSequence(tiny_sequence(inputs, work_dir)).run()
    return work_dir, report


def same(report, other):
    return json.dumps(comparable(report)) == json.dumps(comparable(other))


def test_leaves_the_files_of_the_contract(finished):
    work_dir, report = finished
    assert load_json(work_dir / 'report.json') == json.loads(
        json.dumps(report)
    )
    assert (work_dir / 'report.md').is_file()
    page = (work_dir / 'report.html').read_text()
    assert 'data:image/png' in page and 'method.beta' in page
    for step in ('step_01', 'step_02'):
        for name in ('config.py', 'adapter.safetensors', 'merged.pth'):
            assert (work_dir / step / name).is_file()
        assert not (work_dir / step / 'resume.pth').exists()


def test_nothing_to_forget_is_said_first(inputs, tmp_path, capsys):
    """A checkpoint of random weights; the run goes on all the same."""
    checkpoint = torch.load(inputs / 'pretrained.pth')
    for name, tensor in checkpoint['state_dict'].items():
        if name.startswith('bbox_head.cls_branches'):
            tensor.zero_()
    path = tmp_path / 'blind.pth'
    torch.save(checkpoint, path)
    cfg = tiny_sequence(
        inputs,
        tmp_path / 'run',
        forgetting__pretrained=str(path),
        model__test_cfg__max_per_img=1,
        schedule__max_iters=1,
    )
    ForgettingSequence(cfg).run()
    lines = capsys.readouterr().out.splitlines()
    (said,) = [line for line in lines if 'step 1: mAP of' in line]
    assert 'is 0.0 before anything is forgotten' in said
    assert 'no H-Mean above 0. If there should be' in said
    scored = [line for line in lines if line.startswith('step 1: mAP forget')]
    assert lines.index(said) < lines.index(scored[0])


def test_report_tells_the_steps_apart(finished):
    _, report = finished
    first, second = report['steps']
    assert first['forget'] == ['one', 'seven']
    assert first['old'] == [] and first['old_score'] is None
    assert second['forget'] == ['three']
    assert second['old'] == ['one', 'seven']
    assert second['old_score'] is not None
    assert first['iterations'] == second['iterations'] == 4
    assert first['trainable_parameters'] == second['trainable_parameters']
    assert set(first['groups']) == {
        'encoder.layers.0.ffn',
        'decoder.layers.0.ffn',
        'decoder.layers.1.ffn',
    }
    assert all(group['active'] for group in first['groups'].values())


def test_merged_checkpoint_is_stock(finished, inputs):
    work_dir, _ = finished
    cfg = tiny_sequence(inputs, work_dir)
    before = load_checkpoint(inputs / 'pretrained.pth')['state_dict']
    init_default_scope('mmdet')
    for step in ('step_01', 'step_02'):
        checkpoint = load_checkpoint(work_dir / step / 'merged.pth')
        assert set(checkpoint) == {'meta', 'state_dict'}
        assert set(checkpoint['meta']) == {'dataset_meta'}
        model = MODELS.build(copy.deepcopy(cfg.model))
        model.load_state_dict(checkpoint['state_dict'], strict=True)
        changed = {
            key
            for key, value in checkpoint['state_dict'].items()
            if not torch.equal(value, before[key])
        }
        assert changed and all(
            '.ffn.' in key and key.endswith('.weight') for key in changed
        )
        before = checkpoint['state_dict']


def test_the_same_seed_gives_the_same_report(finished, inputs, tmp_path):
    _, report = finished
    again = ForgettingSequence(tiny_sequence(inputs, tmp_path / 'run')).run()
    assert same(report, again)


def test_another_seed_gives_another_adapter(finished, inputs, tmp_path):
    _, report = finished
    cfg = tiny_sequence(inputs, tmp_path / 'run', randomness__seed=1)
    assert not same(report, ForgettingSequence(cfg).run())


def test_a_dumped_step_config_runs_by_itself(finished, tmp_path):
    work_dir, report = finished
    cfg = Config.fromfile(work_dir / 'step_02' / 'config.py')
    cfg.work_dir = str(tmp_path / 'step')
    cfg.experiment_name = 'by_itself'
    result = run_step(cfg)
    assert comparable(result) == comparable(report['steps'][1])


@pytest.mark.parametrize('saves', [1, 2, 3, 4])
def test_killed_after_a_save_and_resumed(
    finished, inputs, tmp_path, monkeypatch, saves
):
    """Saves 1 and 2 are of step 1 (middle, end), 3 and 4 of step 2."""
    _, report = finished
    hook = killed_after(2 * saves)
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepCheckpointHook, 'after_train_iter', hook)
        ForgettingSequence(cfg).run()
    resumed = ForgettingSequence(cfg, resume=True).run()
    assert same(report, resumed)


@pytest.mark.parametrize('name', ['save_stock_checkpoint', 'step_result'])
def test_killed_between_training_and_result_and_resumed(
    finished, inputs, tmp_path, monkeypatch, name
):
    """Before ``merged.pth`` is written, and after it."""
    _, report = finished

    def killed(*args, **kwargs):
        raise Killed

    cfg = tiny_sequence(inputs, tmp_path / 'run')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(f'gslora_mm.sequence.step.{name}', killed)
        ForgettingSequence(cfg).run()
    step = tmp_path / 'run' / 'step_01'
    assert (step / 'resume.pth').exists()
    assert not (step / 'result.json').exists()
    assert (step / 'merged.pth').exists() == (name == 'step_result')
    assert same(report, ForgettingSequence(cfg, resume=True).run())


def test_a_finished_sequence_is_not_run_again(finished, inputs, monkeypatch):
    work_dir, report = finished
    monkeypatch.setattr('gslora_mm.sequence.run.run_step', None)
    monkeypatch.setattr('gslora_mm.sequence.run.RUNNERS', None)
    cfg = tiny_sequence(inputs, work_dir)
    assert same(report, ForgettingSequence(cfg, resume=True).run())


def test_results_are_never_overwritten_unasked(finished, inputs):
    work_dir, _ = finished
    with pytest.raises(ConfigError, match='resume it, or choose another'):
        ForgettingSequence(tiny_sequence(inputs, work_dir)).run()


def test_other_images_under_the_same_name_are_refused(
    finished, inputs, tmp_path
):
    work_dir, report = finished
    folder = tmp_path / 'run'
    shutil.copytree(work_dir, folder)
    found = load_json(folder / 'sequence.json')
    hashes = found['annotations_sha256']
    assert set(hashes) == {'train_dataloader', 'val_dataloader'}
    assert report['annotations_sha256'] == hashes
    # As if the file had been another one then.
    found['identity']['annotations_sha256']['train_dataloader'] = '0' * 64
    save_json(found, folder / 'sequence.json')
    cfg = tiny_sequence(inputs, folder)
    with pytest.raises(
        ConfigError,
        match='train_dataloader.dataset.ann_file is another file there .*0000',
    ):
        ForgettingSequence(cfg, resume=True).run()
    # What is not known is not compared.
    del found['identity']['annotations_sha256']
    save_json(found, folder / 'sequence.json')
    resumed = ForgettingSequence(cfg, resume=True).run()
    assert same(report, resumed)


def test_results_of_an_older_version_are_refused(finished, inputs, tmp_path):
    work_dir, _ = finished
    folder = tmp_path / 'run'
    shutil.copytree(work_dir, folder)
    found = load_json(folder / 'sequence.json')
    del found['identity']
    save_json(found, folder / 'sequence.json')
    with pytest.raises(ConfigError, match='an older version'):
        ForgettingSequence(tiny_sequence(inputs, folder), resume=True).run()


def test_two_processes_do_not_share_a_work_dir(inputs, tmp_path):
    """The one that comes second leaves all as it is."""
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    first = ForgettingSequence(cfg)
    with first._locked():
        with pytest.raises(ConfigError, match='another process runs a seq'):
            ForgettingSequence(cfg).run()
        assert WorkDir(tmp_path / 'run').lock.exists()
    # Nothing has come of the first one, so nothing is left of it.
    assert not (tmp_path / 'run').exists()


def test_a_file_system_without_locks_is_no_obstacle(
    inputs, tmp_path, monkeypatch
):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, 'acquire', refuse)
    cfg = tiny_sequence(inputs, tmp_path / 'run', schedule__max_iters=0)
    with pytest.raises(ConfigError, match='max_iters = 0'):
        ForgettingSequence(cfg).run()
    assert not (tmp_path / 'run').exists()


def test_a_work_dir_of_another_sequence_is_refused(finished, inputs):
    work_dir, _ = finished
    cfg = tiny_sequence(inputs, work_dir, method__beta=0.5)
    with pytest.raises(
        ConfigError, match='method.beta is 0.2 there and 0.5 here'
    ):
        ForgettingSequence(cfg, resume=True).run()


def test_ema_and_proximal_steps_resume_too(inputs, tmp_path, monkeypatch):
    options = dict(
        schedule__hooks=[
            dict(type='gslora_mm.AdapterEMAHook', decay=0.5),
            dict(
                type='gslora_mm.ForgettingEarlyStopHook',
                window=1,
                forget_tolerance=100.0,
                retain_tolerance=100.0,
                min_iters=3,
            ),
        ],
        method__sparsity='proximal',
        method__alpha_s=1.0,
    )
    cfg = tiny_sequence(inputs, tmp_path / 'whole', **options)
    whole = ForgettingSequence(cfg).run()
    assert [step['iterations'] for step in whole['steps']] == [3, 3]
    assert all(step['stopped_early'] for step in whole['steps'])

    hook = killed_after(2)
    cfg = tiny_sequence(inputs, tmp_path / 'resumed', **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepCheckpointHook, 'after_train_iter', hook)
        ForgettingSequence(cfg).run()
    assert same(whole, ForgettingSequence(cfg, resume=True).run())


def test_nan_stops_the_run_and_keeps_the_last_good_state(
    finished, inputs, tmp_path, monkeypatch
):
    _, report = finished
    losses = GSLoRA.losses

    def nan_in_iteration_4(self, forget, retain):
        for part in losses(self, forget, retain):
            if self.iteration == 3 and 'loss_retain' in part:
                part['loss_retain'] = part['loss_retain'] * float('nan')
            yield part

    cfg = tiny_sequence(inputs, tmp_path / 'run')
    with monkeypatch.context() as patch:
        patch.setattr(GSLoRA, 'losses', nan_in_iteration_4)
        with pytest.raises(NonFiniteLossError, match='nan at iteration 4 of'):
            ForgettingSequence(cfg).run()
    state = load_checkpoint(tmp_path / 'run' / 'step_01' / 'resume.pth')
    assert state['meta']['iter'] == 2
    assert all(t.isfinite().all() for t in state['state_dict'].values())
    assert same(report, ForgettingSequence(cfg, resume=True).run())


def test_scores_that_no_matching_takes_stop_the_run(inputs, tmp_path):
    """A learning rate that is too high by far, before any loss is NaN."""
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    cfg.schedule.optim_wrapper.optimizer.lr = 1e30
    cfg.schedule.optim_wrapper.pop('clip_grad', None)
    cfg.schedule.param_scheduler = None
    message = 'scores or boxes .* at iteration 2 of 4.*lower schedule.optim'
    with pytest.raises(NonFiniteLossError, match=message):
        ForgettingSequence(cfg).run()


def test_parameters_that_are_not_finite_are_never_saved(
    inputs, tmp_path, monkeypatch
):
    """The loss of the last iteration is fine, its gradient is not."""
    losses = GSLoRA.losses

    def nan_gradient_in_iteration_4(self, forget, retain):
        for part in losses(self, forget, retain):
            if self.iteration == 3 and 'loss_retain' in part:
                part['loss_retain'].register_hook(lambda g: g * float('nan'))
            yield part

    cfg = tiny_sequence(inputs, tmp_path / 'run')
    monkeypatch.setattr(GSLoRA, 'losses', nan_gradient_in_iteration_4)
    with pytest.raises(NonFiniteLossError, match='lora_.*iteration 4 of 4'):
        ForgettingSequence(cfg).run()
    state = load_checkpoint(tmp_path / 'run' / 'step_01' / 'resume.pth')
    assert state['meta']['iter'] == 2
    assert not (tmp_path / 'run' / 'step_01' / 'merged.pth').exists()


def test_the_visualizer_is_open_until_the_scores_are_logged(
    inputs, tmp_path, monkeypatch
):
    """W&B refuses scores after it was closed."""
    events = []
    monkeypatch.setattr(
        LocalVisBackend, 'close', lambda self: events.append('close')
    )
    add_scalars = LocalVisBackend.add_scalars

    def note(self, scalars, *args, **kwargs):
        events.append('scores' if 'coco/bbox_mAP' in scalars else 'losses')
        add_scalars(self, scalars, *args, **kwargs)

    monkeypatch.setattr(LocalVisBackend, 'add_scalars', note)
    cfg = tiny_sequence(inputs, tmp_path / 'run', forgetting__steps=[['one']])
    ForgettingSequence(cfg).run()
    after_pretrained = events[events.index('losses') :]
    assert after_pretrained.index('scores') < after_pretrained.index('close')


def test_a_finished_step_is_not_trained_again(finished):
    work_dir, report = finished
    cfg = Config.fromfile(work_dir / 'step_01' / 'config.py')
    with pytest.raises(ConfigError, match='holds a finished step'):
        run_step(cfg)
    assert run_step(cfg, resume=True)['h_mean'] == report['steps'][0]['h_mean']


def test_a_full_disk_loses_nothing(finished, inputs, tmp_path, monkeypatch):
    _, report = finished
    replace = os.replace
    calls = 0

    def full_from_the_second_state_on(source, target):
        nonlocal calls
        calls += str(target).endswith('resume.pth')
        if calls > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    cfg = tiny_sequence(inputs, tmp_path / 'run')
    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', full_from_the_second_state_on)
        with pytest.raises(SaveError, match='previous version was kept'):
            ForgettingSequence(cfg).run()
    state = load_checkpoint(tmp_path / 'run' / 'step_01' / 'resume.pth')
    assert state['meta']['iter'] == 2
    assert same(report, ForgettingSequence(cfg, resume=True).run())


def test_a_step_runs_in_mixed_precision(finished, inputs, tmp_path):
    _, report = finished
    cfg = tiny_sequence(inputs, tmp_path / 'run', forgetting__steps=[['one']])
    cfg.schedule.optim_wrapper = enable_amp(cfg.schedule.optim_wrapper)
    (step,) = ForgettingSequence(cfg).run()['steps']
    assert step['iterations'] == 4
    assert all(group['update_norm'] > 0 for group in step['groups'].values())
