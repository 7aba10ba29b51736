"""Trials and runs of a benchmark, by a script that trains nothing."""

import datetime
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

from gslora_mm.bench.benchmark import run_benchmark
from gslora_mm.bench.run import conditions, environment, machine
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import sha256_of
from tests.small_benchmarks import SCRIPT, calls, results, run


def test_the_best_settings_are_chosen_and_run(benchmark, tmp_path):
    outcomes, lines = run(benchmark, tmp_path, seeds=[0, 5])
    good = outcomes['good']
    betas = [trial.settings.get('method.beta') for trial in good.trials]
    assert betas[0] is None and len(set(betas)) == 3
    expected = [0.8 - abs((beta or 0.7) - 0.3) + 1 for beta in betas]
    assert [t.h_mean for t in good.trials] == pytest.approx(expected)
    assert good.chosen is good.trials[expected.index(max(expected))]
    trial = tmp_path / 'runs/tune/good' / good.chosen.name
    cfg = Config.fromfile(trial / 'seed_100.py')
    assert cfg.val_dataloader.dataset.ann_file == 'tune.json'
    assert cfg.forgetting.steps == [['zero', 'one']]
    cfg = Config.fromfile(good.runs[1].work_dir.with_suffix('.py'))
    assert cfg.val_dataloader.dataset.ann_file != 'tune.json'
    assert len(cfg.forgetting.steps) == 3 and cfg.randomness.seed == 5
    assert cfg.method.beta == good.chosen.settings['method.beta']
    # Nothing is to be chosen for this one, so it has no trials.
    assert [outcome.seed for outcome in outcomes['retrain'].runs] == [0, 5]
    assert not [line for line in calls(tmp_path) if 'tune/retrain' in line]
    assert lines[0].startswith('trials, setting 1') and 'runs:' in lines
    how = conditions(good.runs[0].work_dir)
    assert datetime.date.fromisoformat(how.pop('day')).year >= 2026
    assert how == dict(jobs=1, threads='1', **machine())
    assert list(machine()) == ['cores', 'device', 'torch']


def test_failures_and_misfits_are_rows_with_a_reason(benchmark, tmp_path):
    outcomes, _ = run(benchmark, tmp_path)
    assert outcomes['broken'].chosen is None
    assert 'rank 3 is broken' in outcomes['broken'].reason
    assert outcomes['lirf'].reason == 'it needs a classifier'
    found = results(benchmark, outcomes)['methods']
    assert [each['name'] for each in found[2:]] == ['broken', 'lirf']
    assert all(each['summary'] is None for each in found[2:])
    # Without trials, it is the run that fails.
    outcomes, _ = run(benchmark, tmp_path, tune=False, methods=['broken'])
    assert list(outcomes) == ['broken']
    assert outcomes['broken'].reason is None
    assert 'rank 3' in outcomes['broken'].runs[0].error


def test_started_again_it_repeats_nothing(benchmark, tmp_path):
    options = dict(seeds=[0, 5], methods=['good', 'retrain'])
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


def test_several_at_a_time(benchmark, tmp_path, monkeypatch):
    options = dict(seeds=[0, 5, 9], methods=['good', 'retrain'])
    one, _ = run(benchmark, tmp_path / 'one', **options)
    two, lines = run(benchmark, tmp_path / 'two', jobs=3, **options)
    assert sorted(calls(tmp_path / 'one')) == sorted(calls(tmp_path / 'two'))
    folders = [each.work_dir for each in two['good'].runs]
    assert [each.name[-1] for each in folders] == ['0', '5', '9']
    assert folders[0].with_suffix('.stdout').exists()
    found = [results(benchmark, each)['methods'] for each in (one, two)]
    assert found[0][0]['summary'] == found[1][0]['summary']
    with pytest.raises(ConfigError, match='--jobs 0: must be at least 1'):
        run(benchmark, tmp_path, jobs=0)


def test_runs_share_the_cores_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr('gslora_mm.bench.run.num_cores', lambda: 8)
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    assert environment(3)['OMP_NUM_THREADS'] == '2'
    assert environment(99)['MKL_NUM_THREADS'] == '1'
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert environment(2)['OMP_NUM_THREADS'] == '5'
    assert environment(2)['MKL_NUM_THREADS'] == '5'


@pytest.mark.skipif(sys.platform == 'win32', reason='needs fcntl')
def test_a_run_that_outlived_its_starter_is_waited_for(benchmark, tmp_path):
    folder = tmp_path / 'runs/runs/retrain/as_configured/seed_0'
    folder.mkdir(parents=True)
    report = json.dumps(dict(steps=[1], requests=[1]))
    code = f"""
import fcntl, sys, time
from pathlib import Path
file = open({str(folder.with_suffix('.lock'))!r}, 'a')
fcntl.flock(file, fcntl.LOCK_EX)
print('locked', flush=True)
sys.stdin.read()
time.sleep(1)
Path({str(folder / 'report.json')!r}).write_text({report!r})
"""
    lines = []

    def say(line):
        lines.append(line)
        if line.endswith('another process is at it; waiting'):
            orphan.stdin.close()

    with subprocess.Popen(
        [sys.executable, '-c', code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as orphan:
        assert orphan.stdout.readline() == b'locked\n'
        run_benchmark(
            benchmark, tmp_path / 'runs', [], methods=['retrain'], say=say
        )
    assert len(lines) == 3
    assert lines[2].endswith('finished before')


def test_the_process_of_a_run_keeps_the_lock(tmp_path, benchmark):
    """So that a run whose starter was killed is not started twice."""
    script = """
import fcntl, sys
from pathlib import Path
lock = Path(sys.argv[1]).with_suffix('.lock')
held = [Path(p).resolve() for p in Path('/proc/self/fd').iterdir()
        if p.exists()]
sys.exit('inherited' if lock.resolve() in held else 'not inherited')
"""
    if not Path('/proc/self/fd').exists():
        pytest.skip('needs /proc')
    (outcome,) = run_benchmark(
        benchmark,
        tmp_path / 'runs',
        [sys.executable, '-c', script],
        methods=['retrain'],
        say=lambda line: None,
    )
    assert outcome.runs[0].error == 'exit status 1: inherited'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(methods=['god']), "--methods: unknown name 'god'.*'good'"),
        (dict(seeds=[]), '--seeds: names no seed'),
        (dict(seeds=[3, -2]), '--seeds: -2 is no seed'),
        (dict(methods=['lirf']), 'lirf: nothing to run: it needs a class'),
        (dict(options={'adaptr.rank': 2}), "method 'retrain': .*'adapter'"),
        (dict(options={'adapter.rnk': 2}), "method 'retrain': .*'rank'"),
    ],
)
def test_mistakes_are_found_before_the_first_run(
    benchmark, tmp_path, options, message
):
    with pytest.raises(ConfigError, match=message):
        run(benchmark, tmp_path, **options)
    assert calls(tmp_path) == []


def test_other_settings_in_the_same_folder_are_refused(benchmark, tmp_path):
    run(benchmark, tmp_path, methods=['retrain'])
    with pytest.raises(ConfigError, match='with other settings'):
        run(
            benchmark,
            tmp_path,
            methods=['retrain'],
            options={'schedule.log_interval': 7},
        )


def test_other_settings_are_found_before_hours_of_trials(benchmark, tmp_path):
    run(benchmark, tmp_path, methods=['retrain'], tune=False)
    done = calls(tmp_path)
    with pytest.raises(ConfigError, match='with other settings'):
        run(benchmark, tmp_path, options={'schedule.log_interval': 7})
    assert calls(tmp_path) == done


def test_another_checkpoint_is_refused(benchmark, tmp_path):
    checkpoint = tmp_path / 'pretrained.pth'
    checkpoint.write_bytes(b'one')
    options = {'forgetting.pretrained': str(checkpoint)}
    settings = dict(methods=['retrain'], options=options)
    outcomes, _ = run(benchmark, tmp_path, **settings)
    path = outcomes['retrain'].runs[0].work_dir / 'report.json'
    report = json.loads(path.read_text())
    report['pretrained']['checkpoint_sha256'] = sha256_of(checkpoint)
    path.write_text(json.dumps(report))
    run(benchmark, tmp_path, **settings)
    checkpoint.write_bytes(b'another')
    with pytest.raises(
        ConfigError, match='than forgetting.pretrained = .* is now'
    ):
        run(benchmark, tmp_path, **settings)
    checkpoint.unlink()  # nothing to compare with
    run(benchmark, tmp_path, **settings)
    assert len(calls(tmp_path)) == 1


def test_other_images_under_the_same_name_are_refused(benchmark, tmp_path):
    (tmp_path / 'val.json').write_text('some')
    options = {'val_dataloader.dataset.data_root': str(tmp_path)}
    settings = dict(methods=['retrain'], tune=False, options=options)
    outcomes, _ = run(benchmark, tmp_path, **settings)
    path = outcomes['retrain'].runs[0].work_dir / 'report.json'
    report = json.loads(path.read_text())
    hashes = dict(val_dataloader=sha256_of(tmp_path / 'val.json'))
    path.write_text(json.dumps(dict(report, annotations_sha256=hashes)))
    run(benchmark, tmp_path, **settings)
    (tmp_path / 'val.json').write_text('others')
    with pytest.raises(ConfigError, match="ann_file = 'val.json' is now"):
        run(benchmark, tmp_path, seeds=[0, 1], **settings)
    assert len(calls(tmp_path)) == 1


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (
            "forgetting = dict(steps=[['zero']])",
            "retrain': forgetting.steps =",
        ),
        ("forgetting = dict(pretrained='b')", 'forgetting.pretrained = '),
        (
            "val_dataloader = dict(dataset=dict(ann_file='b.json'))",
            "val_dataloader.dataset.ann_file = 'val.json', but 'b.json' of",
        ),
    ],
)
def test_methods_that_are_about_different_things_are_refused(
    benchmark, tmp_path, setting, message
):
    """Before hours of runs whose scores cannot stand side by side."""
    path = tmp_path / 'other.py'
    path.write_text(f'_base_ = "a.py"\n{setting}')
    runs = {'other': str(path), **benchmark.runs}
    with pytest.raises(ConfigError, match=message):
        run(replace(benchmark, runs=runs), tmp_path, tune=False)
    assert calls(tmp_path) == []


def test_a_search_is_checked_without_trials(benchmark, tmp_path):
    search = dict(good={'method.bta': [0.3]})
    benchmark = replace(benchmark, tune=replace(benchmark.tune, search=search))
    with pytest.raises(ConfigError, match="'good': method.bta is to be sea"):
        run(benchmark, tmp_path, tune=False)
    assert calls(tmp_path) == []


def test_a_run_of_another_process_with_other_settings(benchmark, tmp_path):
    """It came after this one had planned, and was first at the run."""
    folder = tmp_path / 'runs'

    def say(line):
        if line.startswith('[1/2]'):
            options = {'schedule.log_interval': 7}
            settings = dict(methods=['good'], tune=False)
            run(benchmark, tmp_path, options=options, **settings)

    retrain, good = run_benchmark(
        benchmark,
        folder,
        [sys.executable, '-c', SCRIPT],
        methods=['retrain', 'good'],
        tune=False,
        say=say,
    )
    assert retrain.runs[0].error is None
    assert 'holds a run with other settings' in good.runs[0].error
    path = folder / 'runs/good/as_configured/seed_0.py'
    assert 'log_interval' in path.read_text()
    assert len(calls(tmp_path)) == 2


def test_a_folder_may_be_spelled_otherwise(benchmark, tmp_path, monkeypatch):
    run(benchmark, tmp_path, methods=['retrain'])
    monkeypatch.chdir(tmp_path)
    run(benchmark, Path(), methods=['retrain'])
    assert len(calls(tmp_path)) == 1


def test_a_trial_that_failed_once_does_not_block_the_others(
    benchmark, tmp_path
):
    """What is best may be another one then, and so may be what follows."""
    tune = replace(
        benchmark.tune,
        search=dict(
            good={'method.beta': [0.3], 'method.bound': [5.0, 6.0]},
        ),
    )
    benchmark = replace(benchmark, tune=tune)
    settings = dict(methods=['good'], tune=True)
    first = tmp_path / 'runs/tune/good/beta=0.3/seed_100'
    first.mkdir(parents=True)
    # Fails as long as this is there: its folder cannot be made.
    (first / 'step_01').write_text('')
    outcomes, _ = run(benchmark, tmp_path, **settings)
    trials = outcomes['good'].trials
    assert trials[1].error and trials[2].settings == {'method.bound': 5.0}
    (first / 'step_01').unlink()
    outcomes, _ = run(benchmark, tmp_path, **settings)
    trials = outcomes['good'].trials
    assert [trial.error for trial in trials] == [None] * 3
    assert trials[2].settings == {'method.beta': 0.3, 'method.bound': 5.0}
    assert outcomes['good'].chosen is trials[1]


@pytest.mark.parametrize('settings', [{'schedule.max_iters': 2}, {}])
def test_choosing_on_what_is_scored_on_is_refused(
    benchmark, tmp_path, settings
):
    settings = {**settings, 'val_dataloader.dataset.ann_file': 'test.json'}
    benchmark = replace(
        benchmark,
        settings={'val_dataloader.dataset.ann_file': 'test.json'},
        tune=replace(benchmark.tune, settings=settings),
    )
    with pytest.raises(ConfigError, match='images of the runs; set val_data'):
        run(benchmark, tmp_path)
    assert calls(tmp_path) == []


def test_errors_do_not_say_where_things_lie(benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = (
        'import os, sys; here = os.getcwd(); '
        "sys.exit(f'no {here}/data/x.json or /mnt{here}/y')"
    )
    (outcome,) = run_benchmark(
        benchmark,
        'runs',
        [sys.executable, '-c', script],
        methods=['retrain'],
        say=lambda line: None,
    )
    assert outcome.runs[0].error == (
        f'exit status 1: no data/x.json or /mnt{tmp_path}/y'
    )


def test_errors_need_not_be_utf8(benchmark, tmp_path):
    script = r"import os; os.write(2, b'caf\xe9'); os._exit(3)"
    (outcome,) = run_benchmark(
        benchmark,
        tmp_path,
        [sys.executable, '-c', script],
        methods=['retrain'],
        say=lambda line: None,
    )
    assert outcome.runs[0].error == 'exit status 3: caf\ufffd'


@pytest.mark.parametrize(
    'option', ['method.beta', 'method', 'forgetting.steps.num_steps']
)
def test_options_do_not_undo_the_tuning(benchmark, tmp_path, option):
    with pytest.raises(ConfigError, match=f'--cfg-options: {option} is set'):
        run(benchmark, tmp_path, options={option: 0.4})
    assert not list(tmp_path.glob('*/runs'))


def test_options_that_a_schedule_cannot_have_are_found_first(
    benchmark, tmp_path
):
    with pytest.raises(
        ConfigError, match='method .*max_iters = 4 and schedule.max_epochs = 2'
    ):
        run(benchmark, tmp_path, options={'schedule.max_epochs': 2})
    assert not list(tmp_path.glob('*/runs'))


def test_runs_and_trials_have_other_seeds(benchmark, tmp_path):
    seed = benchmark.tune.seed
    with pytest.raises(ConfigError, match=f'--seeds: {seed} is that of'):
        run(benchmark, tmp_path, seeds=[0, seed])
