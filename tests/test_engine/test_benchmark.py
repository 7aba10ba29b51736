"""Benchmarks: their files, trials, and what is made of finished runs."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

from gslora_mm.engine.benchmark import load_benchmark, run_benchmark
from gslora_mm.engine.benchmark_results import collect
from gslora_mm.engine.suite_runs import conditions, environment, machine
from gslora_mm.engine.trials import (
    Search,
    best_trial,
    data_of,
    first_steps,
    next_trials,
    setting_of,
    settings_name,
)
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import sha256_of

ROOT = Path(__file__).parents[2]
FACES = ROOT / 'configs/mini/gs-lora_face-transformer_mini-faces_4x20.py'
#: All that is checked before a run.
BASE = """
model = dict(type='Unused')
train_dataloader = dict(dataset=dict(metainfo=dict(classes=['zero', 'one'])))
val_dataloader = dict(dataset=dict(ann_file='val.json'))
val_evaluator = dict(type='Unused')
forgetting = dict(
    pretrained='unused', steps=[['zero', 'one'], ['two', 'three'], ['four']])
method = dict(type='gslora_mm.GSLoRA', beta=0.2, bound=4.0)
adapter = dict(rank=8)
schedule = dict(
    max_iters=4, batch_size=4, optim_wrapper=dict(optimizer=dict(lr=0.1)))
"""
#: Stands in for tools/train.py: the best beta is 0.3, a rank of 3 is broken.
SCRIPT = """
import json, os, sys
from pathlib import Path

assert sys.argv[2:] == ['--resume']
cfg = {}
exec(Path(sys.argv[1]).read_text(), cfg)
folder = Path(cfg['work_dir'])
with open(folder.parents[3] / 'calls.txt', 'a') as file:
    print(folder.relative_to(folder.parents[3]), file=file)
if cfg['adapter']['rank'] == 3:
    sys.exit('ConfigError: rank 3 is broken')
before = 0.8
steps = []
for number, names in enumerate(cfg['forgetting']['steps'], 1):
    beta = cfg['method']['beta']
    h = before - abs(beta - 0.3) + 0.01 * cfg['forgetting']['seed'] / number
    (folder / f'step_{number:02d}').mkdir(parents=True, exist_ok=True)
    path = folder / f'step_{number:02d}' / 'adapter.safetensors'
    path.write_bytes(bytes(1000 * number))
    steps.append(dict(
        step=number, forget=names, forget_score=beta / 10, retain_score=h,
        old_score=None if number == 1 else 0.1, forget_before=before,
        retain_before=before, old_before=None if number == 1 else before,
        h_mean=h, h_mean_upper_bound=before,
        per_class={'zero': beta * number, 'one': 0.5, 'two': None},
        iterations=10 * number, trainable_share=0.5, peak_memory_mb=number,
        prepare_seconds=1.0, train_seconds=2.0 * number))
report = dict(
    pretrained=dict(metric='mAP'), steps=steps,
    requests=cfg['forgetting']['steps'])
(folder / 'report.json').write_text(json.dumps(report))
"""


def write(folder, text, name='own.py'):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def benchmark(tmp_path):
    write(tmp_path, BASE, 'a.py')
    write(tmp_path, '_base_ = "a.py"\nmethod = dict(beta=0.7)', 'b.py')
    write(tmp_path, '_base_ = "a.py"\nadapter = dict(rank=3)', 'c.py')
    text = """
benchmark = dict(
    title='Three methods',
    runs=dict(retrain='a.py', good='b.py', broken='c.py'),
    not_applicable=dict(lirf='it needs a classifier'),
    tune=dict(
        budget=3,
        steps=1,
        settings={'val_dataloader.dataset.ann_file': 'tune.json'},
        search=dict(
            good={'method.beta': [0.7, 0.1, 0.35, 0.5]},
            broken={'method.beta': [0.4]})))
"""
    return load_benchmark(write(tmp_path, text))


def run(benchmark, folder, **kwargs):
    lines = []
    outcomes = run_benchmark(
        benchmark,
        folder / 'runs',
        [sys.executable, '-c', SCRIPT],
        say=lines.append,
        **kwargs,
    )
    return {each.name: each for each in outcomes}, lines


def calls(folder):
    path = folder / 'runs' / 'calls.txt'
    return path.read_text().splitlines() if path.exists() else []


def results(benchmark, outcomes, seeds=(0,)):
    found = collect(benchmark, list(outcomes.values()), seeds, tuned=True)
    return json.loads(json.dumps(found, default=str))


# Files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x = 1', 'has no benchmark = dict'),
        ('benchmark = dict()', 'benchmark.runs = None'),
        ('benchmark = dict(rnus={})', "benchmark: .*'rnus'.*'runs'"),
        ('benchmark = dict(runs=dict(a="b.py"))', "runs.a = 'b.py': no such"),
        ('benchmark = dict(runs={"a/b": "own.py"})', 'benchmark.runs.a/b'),
        (
            'benchmark = dict(runs=dict(a="own.py"), '
            'not_applicable=dict(a="why"))',
            "not_applicable names 'a'",
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict(budget=2))',
            'tune.settings is missing',
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict('
            'budget=0, settings={}, search={}))',
            'tune.budget = 0: must be an integer',
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict('
            'budget=2, settings={}, search={}))',
            'tune.settings = {}: must be a dictionary',
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict('
            'budget=2, settings={"y": 1}, search=["a"]))',
            r"tune.search = \['a'\]: must be a dictionary",
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict('
            'budget=2, settings={"y": 1}, search=dict(aa={})))',
            "tune.search: unknown name 'aa'.*'a'",
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict('
            'budget=2, settings={"y": 1}, search=dict(a=[1])))',
            r'tune.search.a = \[1\]: must be a dictionary',
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), tune=dict('
            'budget=2, settings={"y": 1}, search=dict(a={"x": 3})))',
            "search.a.'x'. = 3: must be a list",
        ),
        (
            'benchmark = dict(runs=dict(retrain="own.py"), '
            'reference="retrian")',
            "benchmark.reference: unknown name 'retrian'.*'retrain'",
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), settings=["b"])',
            r"benchmark.settings = \['b'\].*must be a dictionary",
        ),
        (
            'benchmark = dict(runs=dict(a="own.py"), not_applicable=["b"])',
            r"not_applicable = \['b'\]",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_benchmark(write(tmp_path, text))


# Trials -------------------------------------------------------------------


def walk(searches, budget, judge):
    """All trials, each judged by its settings."""
    tried = []
    for place in range(len(searches) + 1):
        for trial in next_trials(searches, tried.copy(), place, budget):
            h_mean = judge(trial.settings)
            tried.append(replace(trial, h_mean=h_mean))
    return tried


SEARCHES = [Search('a', [1, 3]), Search('b', [10, 30])]


def test_settings_are_searched_one_after_another():
    """The second one where the first is best: a = 3 needs b = 30."""
    best = {'a': 3, 'b': 30}
    trials = walk(
        SEARCHES, 9, lambda s: sum(s.get(k) == v for k, v in best.items())
    )
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5]
    assert [trial.settings for trial in trials] == [
        {},
        {'a': 1},
        {'a': 3},
        {'a': 3, 'b': 10},
        {'a': 3, 'b': 30},
    ]
    assert best_trial(trials).settings == best
    trials = walk(SEARCHES, 9, lambda s: -len(s))
    assert [t.settings for t in trials[3:]] == [{'b': 10}, {'b': 30}]
    assert best_trial(trials).number == 1


@pytest.mark.parametrize('budget', [1, 2, 4])
def test_no_trial_exceeds_the_budget(budget):
    trials = walk(SEARCHES, budget, lambda s: s.get('a', 2))
    assert [trial.number for trial in trials] == [1, 2, 3, 4][:budget]


def test_failed_trials_are_never_the_best():
    trials = walk(SEARCHES, 9, lambda s: None if s.get('a') == 3 else 0.5)
    assert best_trial(trials).number == 1
    assert [t.settings for t in trials[3:]] == [{'b': 10}, {'b': 30}]
    trials = walk(SEARCHES, 9, lambda s: None)
    assert best_trial(trials) is None and len(trials) == 5


def test_settings_are_found_by_their_keys():
    cfg = Config(dict(a=dict(b=[dict(c=3)])))
    assert setting_of(cfg, 'a.b.0.c') == 3
    for key in ('a.x', 'a.b.1', 'a.b.c', 'a.b.0.c.d'):
        with pytest.raises(ConfigError, match=f'{key} is to be searched'):
            setting_of(cfg, key)


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
    from gslora_mm.engine.plan import ForgettingPlan

    classes = data_of(cfg.train_dataloader).metainfo.classes
    plan = ForgettingPlan.from_config(cfg.forgetting.to_dict(), classes)
    assert steps[0] == list(plan.steps[0])
    cfg.forgetting.learn = [[], [], [classes[0]], []]
    plan = ForgettingPlan.from_config(cfg.forgetting.to_dict(), classes)
    assert first_steps(cfg, 1) == {
        'forgetting.steps': [list(plan.steps[0])],
        'forgetting.learn': [[]],
    }


@pytest.mark.parametrize('unknown', ['classes', 'shown'])
def test_steps_that_follow_from_the_data_are_not_cut(unknown):
    cfg = Config.fromfile(FACES)
    if unknown == 'classes':
        data_of(cfg.train_dataloader).pop('metainfo')
    else:
        cfg.forgetting.missing = 'rest'
    with pytest.raises(ConfigError, match='benchmark.tune.steps = 1: which'):
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
    searches = [
        Search('method.alpha', [0.5, 2.0]),
        Search('adapter.alpha', [0.5, 2.0]),
        Search('method.beta', [0.5]),
    ]
    trials = walk(searches, 9, lambda s: -len(s))
    names = [trial.name for trial in trials]
    assert len(trials) == len(set(names)) == 6
    assert names[0] == 'as_configured' and names[-1] == 'beta=0.5'
    assert names[3] == 'adapter.alpha=0.5'


# Walking through ----------------------------------------------------------


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
    monkeypatch.setattr('gslora_mm.engine.suite_runs.num_cores', lambda: 8)
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
    with pytest.raises(ConfigError, match='of another forgetting.pretrained'):
        run(benchmark, tmp_path, **settings)
    checkpoint.unlink()  # nothing to compare with
    run(benchmark, tmp_path, **settings)
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


# Results ------------------------------------------------------------------


def test_results_by_hand(benchmark, tmp_path):
    outcomes, _ = run(
        benchmark, tmp_path, seeds=[0, 4], methods=['good', 'retrain']
    )
    found = results(benchmark, outcomes, [0, 4])
    assert found['scored_on'] == 'val.json'
    assert found['tuning']['scored_on'] == 'tune.json'
    assert found['metric'] == 'mAP'
    assert found['pretrained'][1] == dict(
        step=2,
        forget_before=0.8,
        retain_before=0.8,
        old_before=0.8,
        h_mean_upper_bound=0.8,
    )
    # Beta is 0.2 and 0.35; the better one comes first.
    good, retrain = found['methods']
    assert (good['name'], retrain['name']) == ('good', 'retrain')
    assert good['chosen']['values'] == {'method.beta': 0.35}
    assert retrain['chosen']['values'] == {}
    first, second = ([0.75 + 0.01 * s / n for n in (1, 2, 3)] for s in (0, 4))
    means = [sum(first) / 3, sum(second) / 3]
    summary = good['summary']
    assert summary['h_mean']['mean'] == pytest.approx(sum(means) / 2)
    assert summary['h_mean']['std'] == pytest.approx(
        abs(means[0] - means[1]) / 2**0.5
    )
    assert summary['seconds'] == dict(mean=1 + 2 * 2, std=0)
    assert summary['iterations']['mean'] == 20
    assert summary['peak_memory_mb']['mean'] == 3
    assert summary['stored_bytes']['mean'] == 2000
    assert summary['gap']['mean'] == pytest.approx((0.35 - 0.2) * 2 / 2)
    assert retrain['summary']['gap']['mean'] == 0
    assert summary['steps'][0]['old_score'] == dict(mean=None, std=None)
    assert summary['steps'][2]['h_mean']['mean'] == pytest.approx(
        (first[2] + second[2]) / 2
    )


def test_what_lacks_a_seed_comes_after_what_has_all(benchmark, tmp_path):
    outcomes, _ = run(
        benchmark, tmp_path, seeds=[0, 4], methods=['good', 'retrain']
    )
    good = outcomes['good']
    half = replace(good.runs[1], error='exit status 1: it broke')
    outcomes['good'] = replace(good, runs=[good.runs[0], half])
    found = results(benchmark, outcomes, [0, 4])['methods']
    assert [each['name'] for each in found] == ['retrain', 'good']
    h = [each['summary']['h_mean']['mean'] for each in found]
    assert h[1] > h[0] - 0.1  # its one seed is not what puts it there


def test_options_are_shown_as_they_were(benchmark, tmp_path):
    options = {
        'method.beta': 0.35,
        'val_dataloader.dataset.ann_file': 'mine.json',
    }
    outcomes, _ = run(
        benchmark, tmp_path, methods=['good'], tune=False, options=options
    )
    found = collect(
        benchmark, list(outcomes.values()), [0], tuned=False, options=options
    )
    assert found['scored_on'] == 'mine.json'
    assert found['settings'] == options
    assert found['methods'][0]['chosen']['values'] == {'method.beta': 0.35}


def test_without_the_reference_there_is_no_gap(benchmark, tmp_path):
    outcomes, _ = run(benchmark, tmp_path, methods=['good'])
    (good,) = results(benchmark, outcomes)['methods']
    assert good['summary']['gap'] == dict(mean=None, std=None)
