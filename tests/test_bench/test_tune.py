"""Trials and runs of a suite, by a script that trains nothing."""

import datetime
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

from gslora_mm.bench.machine import environment, machine
from gslora_mm.bench.record import conditions
from gslora_mm.bench.suite import Run, load_suite
from gslora_mm.bench.tune import (
    best_trial,
    first_steps,
    settings_name,
    trial_record,
    tried_values,
)
from gslora_mm.entries import read_entries
from gslora_mm.sequence.identity import dataset_config
from gslora_mm.sequence.plan import ForgettingPlan
from gslora_mm.utils import ConfigError, load_json, save_json
from gslora_mm.utils.checkpoint import sha256_of
from tests.small_benchmarks import BASE, calls, results, run, write

ROOT = Path(__file__).parents[2]
FACES = ROOT / 'configs/mini/gs-lora_face-transformer_mini-faces_4x20.py'


def test_the_best_settings_are_chosen_and_run(benchmark, tmp_path):
    outcomes, lines = run(benchmark, tmp_path, seeds=[0, 5])
    good = outcomes['good']
    betas = [trial['settings'].get('method.beta') for trial in good.trials]
    assert betas == [None, 0.1, 0.35]
    expected = [0.8 - abs((beta or 0.7) - 0.3) + 1 for beta in betas]
    assert [t['h_mean'] for t in good.trials] == pytest.approx(expected)
    assert good.chosen is good.trials[expected.index(max(expected))]
    trial = tmp_path / 'runs/tune/good' / good.chosen['name']
    cfg = Config.fromfile(trial / 'seed_100.py')
    assert cfg.val_dataloader.dataset.ann_file == 'tune.json'
    assert cfg.forgetting.steps == [['zero', 'one']]
    cfg = Config.fromfile(good.runs[1].work_dir.with_suffix('.py'))
    assert cfg.val_dataloader.dataset.ann_file != 'tune.json'
    assert len(cfg.forgetting.steps) == 3 and cfg.randomness.seed == 5
    assert cfg.method.beta == good.chosen['settings']['method.beta']
    # Nothing is to be chosen for this one, so it has no trials.
    assert [outcome.seed for outcome in outcomes['retrain'].runs] == [0, 5]
    assert not [line for line in calls(tmp_path) if 'tune/retrain' in line]
    assert lines[0] == 'trials:' and 'runs:' in lines
    how = conditions(good.runs[0].work_dir)
    assert datetime.date.fromisoformat(how.pop('day')).year >= 2026
    assert how == dict(jobs=1, threads='1', **machine())
    assert list(machine()) == ['cores', 'device', 'torch']


def test_failures_and_misfits_are_rows_with_a_reason(benchmark, tmp_path):
    outcomes, _ = run(benchmark, tmp_path)
    assert outcomes['broken'].chosen is None
    found = results(benchmark, outcomes)['methods']
    assert 'rank 3 is broken' in found[2]['reason']
    assert found[3]['reason'] == 'it needs a classifier'
    assert [each['name'] for each in found[2:]] == ['broken', 'lirf']
    assert all(each['summary'] is None for each in found[2:])
    # Without trials, it is the run that fails.
    outcomes, _ = run(benchmark, tmp_path, tune=False, only=['broken'])
    assert list(outcomes) == ['broken']
    (found,) = results(benchmark, outcomes)['methods']
    assert found['reason'] is None
    assert 'rank 3' in outcomes['broken'].runs[0].error


def test_started_again_it_repeats_nothing(benchmark, tmp_path):
    options = dict(seeds=[0, 5], only=['good', 'retrain'])
    outcomes, _ = run(benchmark, tmp_path, **options)
    before, done = results(benchmark, outcomes, [0, 5]), calls(tmp_path)
    assert len(done) == len(set(done)) == 3 + 2 * 2
    outcomes, lines = run(benchmark, tmp_path, **options)
    assert calls(tmp_path) == done
    assert results(benchmark, outcomes, [0, 5]) == before
    # Killed: a report is not there, others are half written.
    first, second = (each.work_dir for each in outcomes['good'].runs)
    trial = tmp_path / 'runs/tune/good/beta=0.1/seed_100'
    (first / 'report.json').unlink()
    (second / 'report.json').write_text('{"steps": [1, ')
    (trial / 'report.json').write_text('')
    (second / 'step_01' / 'result.json').write_text('{"step": ')
    (second / 'step_02' / 'result.json').write_text('{}')
    outcomes, _ = run(benchmark, tmp_path, **options)
    again = [
        str(each.relative_to(tmp_path / 'runs'))
        for each in (trial, first, second)
    ]
    assert calls(tmp_path) == done + again
    assert results(benchmark, outcomes, [0, 5]) == before
    assert not (second / 'step_01' / 'result.json').exists()
    assert (second / 'step_02' / 'result.json').exists()


def test_trials_of_an_earlier_benchmark(benchmark, tmp_path):
    options = dict(only=['good', 'retrain'])
    first, _ = run(benchmark, tmp_path / 'first', **options)
    known = {'good': first['good'].trials, 'retrain': [], 'other': [{}]}
    again, _ = run(benchmark, tmp_path / 'again', known=known, **options)
    assert again['good'].trials == first['good'].trials
    assert again['good'].chosen == first['good'].chosen
    assert not [line for line in calls(tmp_path / 'again') if 'tune/' in line]
    assert len(calls(tmp_path / 'again')) == 2
    # One that has failed may do better now, so all are tried.
    one, *others = first['good'].trials
    failed = {'good': [dict(one, h_mean=None, error='killed'), *others]}
    third, _ = run(benchmark, tmp_path / 'third', known=failed, **options)
    assert third['good'].trials == first['good'].trials
    tried = [c for c in calls(tmp_path / 'third') if 'tune/' in c]
    assert len(tried) == 3
    # What would undo trials is refused as if they were run.
    for more, message in (
        (dict(seeds=[100]), 'seeds: 100 is that of the trials'),
        (dict(options={'method.beta': 0.5}), 'options: method.beta is set'),
    ):
        with pytest.raises(ConfigError, match=message):
            run(benchmark, tmp_path / 'o', known=known, **options, **more)
    known['good'] = known['good'][:2]
    with pytest.raises(ConfigError, match="known = .*of run 'good' are"):
        run(benchmark, tmp_path / 'other', known=known, **options)
    assert not (tmp_path / 'other').exists()


def test_several_at_a_time(benchmark, tmp_path, monkeypatch):
    options = dict(seeds=[0, 5, 9], only=['good', 'retrain'])
    one, _ = run(benchmark, tmp_path / 'one', **options)
    two, lines = run(benchmark, tmp_path / 'two', jobs=3, **options)
    assert sorted(calls(tmp_path / 'one')) == sorted(calls(tmp_path / 'two'))
    folders = [each.work_dir for each in two['good'].runs]
    assert [each.name[-1] for each in folders] == ['0', '5', '9']
    assert folders[0].with_suffix('.stdout').exists()
    found = [results(benchmark, each)['methods'] for each in (one, two)]
    assert found[0][0]['summary'] == found[1][0]['summary']
    with pytest.raises(ConfigError, match='jobs = 0: must be at least 1'):
        run(benchmark, tmp_path, jobs=0)


def test_runs_share_the_cores_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr('gslora_mm.bench.machine.num_cores', lambda: 8)
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    assert environment(3)['OMP_NUM_THREADS'] == '2'
    assert environment(99)['MKL_NUM_THREADS'] == '1'
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert environment(2)['OMP_NUM_THREADS'] == '5'
    assert environment(2)['MKL_NUM_THREADS'] == '5'


HOLDER = """
import sys, time
from pathlib import Path
from filelock import FileLock

with FileLock({lock!r}):
    print('locked', flush=True)
    sys.stdin.read()
    time.sleep(0.2)
    Path({report!r}).write_text({text!r})
"""


@pytest.mark.parametrize('place', ['seed_0/.lock', 'seed_0.lock'])
def test_a_run_of_another_process_is_waited_for(benchmark, tmp_path, place):
    """By the lock of a sequence that outlived its starter, or a starter's."""
    folder = tmp_path / 'runs/runs/retrain/as_configured'
    (folder / 'seed_0').mkdir(parents=True)
    code = HOLDER.format(
        lock=str(folder / place),
        report=str(folder / 'seed_0' / 'report.json'),
        text=json.dumps(dict(steps=[1], requests=[1])),
    )
    lines = []

    def say(line):
        lines.append(line)
        if line.endswith('another process is at it; waiting'):
            holder.stdin.close()

    with subprocess.Popen(
        [sys.executable, '-c', code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout.readline() == b'locked\n'
        run(benchmark, tmp_path, [], only=['retrain'], say=say)
    assert len(lines) == 3
    assert lines[2].endswith('finished before')


def test_what_is_known_of_a_run_stands_beside_it(benchmark, tmp_path):
    """Not in the lock, which whoever takes it may empty."""
    outcomes, _ = run(benchmark, tmp_path, only=['retrain'])
    folder = outcomes['retrain'].runs[0].work_dir
    record = json.loads(folder.with_suffix('.json').read_text())
    assert record['identity']['config']['method']['beta'] == 0.2
    assert record['jobs'] == 1
    assert not folder.with_suffix('.lock').read_text()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(only=['god']), "only: unknown name 'god'.*'good'"),
        (dict(seeds=[]), 'seeds: names no seed'),
        (dict(seeds=[3, -2]), 'seeds: -2 is no seed'),
        (dict(only=['lirf']), 'lirf: nothing to run: it needs a class'),
        (dict(options={'adaptr.rank': 2}), "run 'retrain': .*'adapter'"),
        (dict(options={'adapter.rnk': 2}), "run 'retrain': .*'rank'"),
    ],
)
def test_mistakes_are_found_before_the_first_run(
    benchmark, tmp_path, options, message
):
    with pytest.raises(ConfigError, match=message):
        run(benchmark, tmp_path, **options)
    assert calls(tmp_path) == []


def test_other_settings_in_the_same_folder_are_refused(benchmark, tmp_path):
    run(benchmark, tmp_path, only=['retrain'])
    with pytest.raises(ConfigError, match='holds another run: schedule'):
        run(
            benchmark,
            tmp_path,
            only=['retrain'],
            options={'schedule.log_interval': 7},
        )


def test_other_settings_are_found_before_hours_of_trials(benchmark, tmp_path):
    run(benchmark, tmp_path, only=['retrain'], tune=False)
    done = calls(tmp_path)
    with pytest.raises(ConfigError, match='holds another run: schedule'):
        run(benchmark, tmp_path, options={'schedule.log_interval': 7})
    assert calls(tmp_path) == done


def test_another_checkpoint_is_refused(benchmark, tmp_path):
    checkpoint = tmp_path / 'pretrained.pth'
    checkpoint.write_bytes(b'one')
    options = {'forgetting.pretrained': str(checkpoint)}
    settings = dict(only=['retrain'], options=options)
    run(benchmark, tmp_path, **settings)
    run(benchmark, tmp_path, **settings)
    checkpoint.write_bytes(b'another')
    with pytest.raises(ConfigError, match='run: forgetting.pretrained is'):
        run(benchmark, tmp_path, **settings)
    checkpoint.unlink()  # nothing to compare with
    run(benchmark, tmp_path, **settings)
    assert len(calls(tmp_path)) == 1


def test_changed_files_of_older_runs_are_refused(benchmark, tmp_path):
    """Without a record, their report may have the hashes."""
    checkpoint = tmp_path / 'pretrained.pth'
    checkpoint.write_bytes(b'one')
    (tmp_path / 'val.json').write_text('some')
    options = {
        'forgetting.pretrained': str(checkpoint),
        'val_dataloader.dataset.data_root': str(tmp_path),
    }
    settings = dict(only=['retrain'], tune=False, options=options)
    outcomes, _ = run(benchmark, tmp_path, **settings)
    folder = outcomes['retrain'].runs[0].work_dir
    folder.with_suffix('.json').unlink()
    run(benchmark, tmp_path, **settings)  # the report has none
    report = load_json(folder / 'report.json')
    report['pretrained']['checkpoint_sha256'] = sha256_of(checkpoint)
    report['annotations_sha256'] = dict(
        val_dataloader=sha256_of(tmp_path / 'val.json')
    )
    save_json(report, folder / 'report.json')
    run(benchmark, tmp_path, **settings)
    for path, name in (
        (checkpoint, 'forgetting.pretrained'),
        (tmp_path / 'val.json', 'val_dataloader.dataset.ann_file'),
    ):
        before = path.read_bytes()
        path.write_bytes(b'others')
        with pytest.raises(ConfigError, match=f'run: {name} is another'):
            run(benchmark, tmp_path, **settings)
        path.write_bytes(before)
    assert len(calls(tmp_path)) == 1


def test_other_images_under_the_same_name_are_refused(benchmark, tmp_path):
    (tmp_path / 'val.json').write_text('some')
    options = {'val_dataloader.dataset.data_root': str(tmp_path)}
    settings = dict(only=['retrain'], tune=False, options=options)
    run(benchmark, tmp_path, **settings)
    run(benchmark, tmp_path, **settings)
    (tmp_path / 'val.json').write_text('others')
    with pytest.raises(ConfigError, match='run: val_dataloader.dataset.ann'):
        run(benchmark, tmp_path, seeds=[0, 1], **settings)
    assert len(calls(tmp_path)) == 1


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ("forgetting = dict(steps=[['zero']])", 'forgetting.steps is'),
        ("forgetting = dict(pretrained='b')", "pretrained is 'unused' there"),
        (
            "val_dataloader = dict(dataset=dict(ann_file='b.json'))",
            "val_dataloader.dataset.ann_file is 'val.json' there and 'b.json'",
        ),
    ],
)
def test_runs_that_are_about_different_things_are_refused(
    benchmark, tmp_path, setting, message
):
    """Before hours of runs whose scores cannot stand side by side."""
    other = "suite = dict(runs=dict(other=dict(_base_='c.py')))"
    write(tmp_path, f"_base_ = 'own.py'\n{other}", 'more.py')
    write(tmp_path, setting, 'c.py')
    with pytest.raises(ConfigError, match=f'.other. .*{message}'):
        run(load_suite(tmp_path / 'more.py'), tmp_path, tune=False)
    assert calls(tmp_path) == []


@pytest.mark.parametrize(
    'setting',
    [
        "model = dict(type='Other', backbone=dict(drop_path_rate=0.1))",
        "train_dataloader = dict(dataset=dict(ann_file='more.json'))",
        "method = dict(_delete_=True, type='gslora_mm.DELETE')",
        'adapter = dict(rank=2)',
    ],
)
def test_runs_may_train_in_their_own_ways(benchmark, tmp_path, setting):
    """With missing = 'rest', too, which follows from what they train on."""
    write(tmp_path, setting, 'c.py')
    text = """
suite = dict(
    base='a.py', settings={'forgetting.missing': 'rest'},
    runs=dict(retrain={}, other=dict(_base_='c.py')))
"""
    run(load_suite(write(tmp_path, text, 'more.py')), tmp_path, tune=False)
    assert len(calls(tmp_path)) == 2


def test_the_same_trial_twice_does_not_mix_up_the_others(benchmark, tmp_path):
    tried = [{'method.beta': beta} for beta in (0.1, 0.1, 0.35)]
    benchmark = with_trials(benchmark, *tried)
    outcomes, _ = run(benchmark, tmp_path, only=['good'])
    assert outcomes['good'].chosen['settings'] == {'method.beta': 0.35}
    found = [trial['h_mean'] for trial in outcomes['good'].trials]
    assert found[3] == pytest.approx(0.8 - 0.05 + 1)


def with_trials(benchmark, *trials):
    good = replace(benchmark.runs['good'], trials=trials)
    return replace(benchmark, runs={**benchmark.runs, 'good': good})


@pytest.mark.parametrize('tune', [True, False])
def test_trials_are_checked_before_the_first_run(benchmark, tmp_path, tune):
    benchmark = with_trials(benchmark, {'method.bta': 0.3})
    with pytest.raises(ConfigError, match="'good': method.bta: is to be tr"):
        run(benchmark, tmp_path, tune=tune)
    assert calls(tmp_path) == []


def test_a_run_of_another_process_with_other_settings(benchmark, tmp_path):
    """It came after this one had planned, and was first at the run."""
    folder = tmp_path / 'runs'

    def say(line):
        if line.startswith('[1/2]'):
            options = {'schedule.log_interval': 7}
            settings = dict(only=['good'], tune=False)
            run(benchmark, tmp_path, options=options, **settings)

    outcomes, _ = run(
        benchmark, tmp_path, only=['retrain', 'good'], tune=False, say=say
    )
    assert outcomes['retrain'].runs[0].error is None
    assert 'holds another run' in outcomes['good'].runs[0].error
    path = folder / 'runs/good/as_configured/seed_0.py'
    assert 'log_interval' in path.read_text()
    assert len(calls(tmp_path)) == 2


def test_a_folder_may_be_spelled_otherwise(benchmark, tmp_path, monkeypatch):
    run(benchmark, tmp_path, only=['retrain'])
    monkeypatch.chdir(tmp_path)
    run(benchmark, Path(), only=['retrain'])
    assert len(calls(tmp_path)) == 1


def test_a_trial_that_failed_once_does_not_block_the_others(
    benchmark, tmp_path
):
    """What is best may be another one the next time."""
    folder = tmp_path / 'runs/tune/good/beta=0.35/seed_100'
    # Fails as long as this is there: no file of that name can be made.
    (folder / 'step_01' / 'adapter.safetensors').mkdir(parents=True)
    outcomes, _ = run(benchmark, tmp_path, only=['good'])
    trials = outcomes['good'].trials
    assert trials[2]['error'] and outcomes['good'].chosen is trials[1]
    (folder / 'step_01' / 'adapter.safetensors').rmdir()
    outcomes, _ = run(benchmark, tmp_path, only=['good'])
    trials = outcomes['good'].trials
    assert [trial['error'] for trial in trials] == [None] * 3
    assert outcomes['good'].chosen is trials[2]


@pytest.mark.parametrize('settings', [{'schedule.max_iters': 2}, {}])
def test_choosing_on_what_is_scored_on_is_refused(
    benchmark, tmp_path, settings
):
    settings = {**settings, 'val_dataloader.dataset.ann_file': 'test.json'}
    benchmark = replace(benchmark, trial_settings=settings)
    options = {'val_dataloader.dataset.ann_file': 'test.json'}
    good = replace(benchmark.runs['good'], settings=options)
    benchmark = replace(benchmark, runs=dict(good=good))
    with pytest.raises(ConfigError, match='images of the runs; set val_data'):
        run(benchmark, tmp_path)
    assert calls(tmp_path) == []


def test_errors_do_not_say_where_things_lie(benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = (
        'import os, sys; here = os.getcwd(); '
        "sys.exit(f'no {here}/data/x.json or /mnt{here}/y')"
    )
    outcomes, _ = run(
        benchmark,
        tmp_path.relative_to(tmp_path),
        [sys.executable, '-c', script],
        only=['retrain'],
    )
    assert outcomes['retrain'].runs[0].error == (
        f'exit status 1: no data/x.json or /mnt{tmp_path}/y'
    )


def test_errors_need_not_be_utf8(benchmark, tmp_path):
    script = r"import os; os.write(2, b'caf\xe9'); os._exit(3)"
    outcomes, _ = run(
        benchmark, tmp_path, [sys.executable, '-c', script], only=['retrain']
    )
    assert outcomes['retrain'].runs[0].error == 'exit status 3: caf\ufffd'


@pytest.mark.parametrize(
    'option', ['method.beta', 'method', 'forgetting.steps.num_steps']
)
def test_options_do_not_undo_the_tuning(benchmark, tmp_path, option):
    with pytest.raises(ConfigError, match=f'options: {option} is set'):
        run(benchmark, tmp_path, options={option: 0.4})
    assert not list(tmp_path.glob('*/runs'))


def test_options_that_a_schedule_cannot_have_are_found_first(
    benchmark, tmp_path
):
    with pytest.raises(
        ConfigError, match='run .*max_iters = 4: with max_epochs = 2'
    ):
        run(benchmark, tmp_path, options={'schedule.max_epochs': 2})
    assert not list(tmp_path.glob('*/runs'))


def test_runs_and_trials_have_other_seeds(benchmark, tmp_path):
    with pytest.raises(ConfigError, match='seeds: 100 is that of'):
        run(benchmark, tmp_path, seeds=[0, 100])


# Trials -------------------------------------------------------------------


def test_failed_trials_are_never_the_best():
    trials = [trial_record(number) for number in range(4)]
    for trial, h_mean in zip(trials, [0.4, None, 0.5, 0.5], strict=True):
        trial['h_mean'] = h_mean
    assert best_trial(trials) is trials[2]
    assert best_trial([trials[1]]) is None
    assert best_trial([])['settings'] == {}


def test_values_that_are_tried():
    trials = [{'a': 1}, {'a': 3}, {'a': 3, 'b': 2}, {'b': 5}]
    found = tried_values(Run('x', {}, {}, trials))
    assert found == {'a': [1, 3], 'b': [2, 5]}
    assert list(found) == ['a', 'b']


def test_sequences_are_cut_after_their_first_steps():
    cfg = Config.fromstring(BASE, '.py')
    cfg.method.beta = [0.1, 0.2, 0.3]
    assert first_steps(cfg, 2) == {
        'forgetting.steps': [['zero', 'one'], ['two', 'three']],
        'method.beta': [0.1, 0.2],
    }
    cfg = Config.fromfile(FACES)
    steps = first_steps(cfg, 1)['forgetting.steps']
    assert [len(names) for names in steps] == [20]
    classes = dataset_config(cfg.train_dataloader).metainfo.classes
    plan = ForgettingPlan.make(read_entries(cfg).forgetting, classes)
    assert steps[0] == list(plan.steps[0])
    cfg.forgetting.learn = [[], [], [classes[0]], []]
    plan = ForgettingPlan.make(read_entries(cfg).forgetting, classes)
    assert first_steps(cfg, 1) == {
        'forgetting.steps': [list(plan.steps[0])],
        'forgetting.learn': [[]],
    }


@pytest.mark.parametrize('unknown', ['classes', 'shown'])
def test_steps_that_follow_from_the_data_are_not_cut(unknown):
    cfg = Config.fromfile(FACES)
    if unknown == 'classes':
        dataset_config(cfg.train_dataloader).pop('metainfo')
    else:
        cfg.forgetting.missing = 'rest'
    with pytest.raises(ConfigError, match='suite.trial_steps = 1: which'):
        first_steps(cfg, 1)


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        ({}, 'as_configured'),
        ({'a.lr': 0.003, 'm.mask': 'own'}, 'lr=0.003,mask=own'),
        ({'a.lr': 1e-05}, 'lr=1e-05'),
    ],
)
def test_folders_are_named_by_settings(settings, name):
    keys = ['a.lr', 'm.mask', 'm.beta']
    assert settings_name(settings, keys) == name


def test_settings_that_make_no_name_have_one_of_their_own():
    values = ['../up', [0.1, 0.2], dict(a=1), 'long' * 40]
    names = [settings_name({'m.x': value}, ['m.x']) for value in values]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r'settings_[0-9a-f]{10}', n) for n in names)


def test_no_two_trials_share_a_folder():
    """Two settings may have the same last part and the same values."""
    trials = [
        {key: value}
        for key in ('method.alpha', 'adapter.alpha')
        for value in (0.5, 2.0)
    ]
    trials.append({'method.beta': 0.5})
    keys = list(tried_values(Run('x', {}, {}, trials)))
    names = [settings_name(settings, keys) for settings in trials]
    assert len(names) == len(set(names))
    assert names[2] == 'adapter.alpha=0.5' and names[-1] == 'beta=0.5'
