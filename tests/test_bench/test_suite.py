"""Suites: their files, and walking through their runs."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from gslora_mm.bench.run import run_all
from gslora_mm.bench.suite import (
    check_settings,
    find_suite,
    load_suite,
    setting_of,
)
from gslora_mm.utils import ConfigError
from tests.step_models import build_last_step

ROOT = Path(__file__).parents[2]
ABLATIONS = ROOT / 'configs' / 'ablations'
SUITES = sorted(ABLATIONS.glob('*.py'))
BASE = ROOT / 'configs/mini/gs-lora_deformable-detr_mini-coco_3x2.py'
#: Stands in for tools/train.py: does what the seed says.
SCRIPT = """
import json, re, sys
from pathlib import Path
text = Path(sys.argv[1]).read_text()
assert sys.argv[2:] == ['--resume']
if 'rank=3' in text:
    sys.exit('some warning\\nConfigError: rank 3 is broken')
folder = Path(re.search("work_dir='(.*?)'", text)[1])
folder.mkdir(parents=True)
(folder / 'runs.txt').open('a').write('x')
report = dict(steps=[1], requests=[['a']])
(folder / 'report.json').write_text(json.dumps(report))
"""


def write(folder, text, name='own.py'):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def suite(tmp_path):
    text = f"""
suite = dict(
    title='Three ranks',
    base='{BASE}',
    runs={{
        'two': {{'adapter.rank': 2}},
        'three': {{'adapter.rank': 3}},
        'four': {{'adapter.rank': 4, 'schedule.max_iters': 7}},
    }})
"""
    return load_suite(write(tmp_path, text))


def run(suite, folder, only=(), **kwargs):
    command = [sys.executable, '-c', SCRIPT]
    lines = []
    runs = suite.selected(only)
    outcomes = run_all(runs, folder, command, say=lines.append, **kwargs)
    return outcomes, lines


# The files of this project ------------------------------------------------


@pytest.mark.parametrize('path', SUITES, ids=lambda path: path.stem)
def test_every_run_of_every_suite_builds(path):
    """Model, adapter, method and the config of every step."""
    suite = load_suite(path)
    texts = []
    for name in suite.runs:
        cfg = suite.runs[name].config(seed=3)
        assert cfg.randomness.seed == cfg.forgetting.seed == 3
        texts.append(str(cfg.to_dict()))
        check_settings(cfg)
        assert build_last_step(cfg).groups
    assert len(set(texts)) == len(texts), 'two runs are the same'


def test_the_readme_lists_every_suite():
    text = (ABLATIONS / 'README.md').read_text()
    for path in SUITES:
        assert f'](./{path.name})' in text


def test_suites_are_found_by_name_and_by_file(tmp_path):
    assert find_suite('rank', ABLATIONS) == ABLATIONS / 'rank.py'
    path = write(tmp_path, '')
    assert find_suite(str(path), ABLATIONS) == path
    with pytest.raises(ConfigError, match="'ranks'.*Did you mean 'rank'"):
        find_suite('ranks', ABLATIONS)
    with pytest.raises(ConfigError, match='no such file'):
        find_suite('other.py', ABLATIONS)


def test_seeds_reach_methods_that_draw(suite, tmp_path):
    base = f"""
_base_ = '{BASE}'
method = dict(_delete_=True, type='gslora_mm.RandomDrop', seed=0)
adapter = None
"""
    own = write(tmp_path, base, 'drop.py')
    runs = "runs=dict(a={}, b={'method.seed': 5}, c={'method.seed': [1, 2]})"
    suite = load_suite(
        write(tmp_path, f"suite = dict(base='{own.name}', {runs})")
    )
    configs = [run.config(seed=3) for run in suite.runs.values()]
    found = [cfg.method.seed for cfg in configs]
    assert found == [3, 5, [1, 2]]


def test_a_setting_of_a_seed_wins(suite):
    options = {'forgetting.seed': 7, 'method.seed': 8}
    cfg = suite.runs['two'].config(seed=3, options=options)
    found = cfg.randomness.seed, cfg.forgetting.seed, cfg.method.seed
    assert found == (3, 7, 8)


@pytest.mark.parametrize('delete', [{}, {'_delete_': True}])
def test_a_setting_of_a_section_leaves_its_seed(suite, delete):
    options = {'randomness': {'deterministic': True, **delete}}
    cfg = suite.runs['two'].config(seed=3, options=options)
    assert cfg.randomness == dict(deterministic=True, seed=3)


# Bad suites ---------------------------------------------------------------


ONE = 'suite = dict(base="own.py", runs=dict(a={}), '


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x = 1', 'has no suite = dict'),
        ('suite = dict(base="b.py")', 'suite.runs = None'),
        ('suite = dict(bsae="b.py", runs=dict(a={}))', "'bsae'.*'base'"),
        ('suite = dict(runs=dict(a={}))', 'suite.runs.a: neither'),
        ('suite = dict(base="b.py", runs=dict(a={}))', "'b.py': no such"),
        (
            'suite = dict(base="own.py", runs=dict(a=dict(_base_=["b.py"])))',
            "suite.runs.a._base_ = 'b.py': no such",
        ),
        ('suite = dict(base=3, runs=dict(a={}))', 'base = 3: must be a conf'),
        ('suite = dict(base="b.py", runs=dict(a=1))', 'suite.runs.a = 1'),
        ('suite = dict(base="b.py", runs={"a/b": {}})', 'suite.runs.a/b'),
        (
            'suite = dict(base="own.py", runs=dict(a=dict(trials={"x": 3})))',
            "suite.runs.a.trials = {'x': 3}: must be a list",
        ),
        (
            'suite = dict(base="own.py", runs=dict(a=dict(trials=[{}])))',
            r'suite.runs.a.trials = \[{}\]: .*comes before them',
        ),
        (ONE + 'not_applicable=dict(a="why"))', "not_applicable.*names 'a'"),
        (ONE + 'not_applicable=["b"])', r"not_applicable = \['b'\]"),
        (ONE + 'settings=["b"])', r"suite.settings = \['b'\]: must be a dic"),
        (ONE + 'trial_settings=3)', 'suite.trial_settings = 3: must be a d'),
        (ONE + 'trial_steps=0)', 'suite.trial_steps = 0: must be an integer'),
        (ONE + 'trial_seed="a")', "suite.trial_seed = 'a': must be an int"),
        (
            'suite = dict(base="own.py", runs=dict(retrain={}), '
            'reference="retrian")',
            "suite.reference: unknown name 'retrian'.*'retrain'",
        ),
    ],
)
def test_bad_suites_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_suite(write(tmp_path, text))


def test_a_base_of_ones_own_that_is_not_there(tmp_path):
    path = write(tmp_path, ONE + ')')
    with pytest.raises(ConfigError, match="base = 'b.py': no such file"):
        load_suite(path, base='b.py')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'adaptr.rank': 2}, "run 'a': settings: .*'adapter'"),
        ({'adapter.rnk': 2}, "run 'a': adapter: .*'rank'"),
        ({'method.alpa_s': 2}, "run 'a': method.*alpa_s"),
        ({'method.beta': [0.1, 0.2]}, "run 'a': method.beta.*2 entries"),
        ({'forgetting.shot': 2}, "run 'a': forgetting.shot: no such"),
        ({'schedule.epochs': 2}, "run 'a': schedule.epochs: no such"),
    ],
)
def test_a_typing_error_is_found_before_the_first_run(
    tmp_path, settings, message
):
    text = f'suite = dict(base={str(BASE)!r}, runs=dict(a={settings!r}))'
    suite = load_suite(write(tmp_path, text))
    with pytest.raises(ConfigError, match=message):
        run(suite, tmp_path / 'runs')
    assert not (tmp_path / 'runs').exists()


def test_unknown_runs_are_refused(suite, tmp_path):
    with pytest.raises(ConfigError, match="only: .*'tow'.*'two'"):
        run(suite, tmp_path / 'runs', only=['tow'])


# Walking through ----------------------------------------------------------


def test_a_failure_does_not_stop_the_others(suite, tmp_path):
    folder = tmp_path / 'runs'
    outcomes, lines = run(suite, folder, seeds=[0, 0])
    assert [each.run.name for each in outcomes] == ['two', 'three', 'four']
    assert [each.error for each in outcomes] == [
        None,
        'exit status 1: ConfigError: rank 3 is broken',
        None,
    ]
    log = (folder / 'three' / 'seed_0.stderr').read_text()
    assert log.startswith('some warning')
    cfg = Config.fromfile(folder / 'four' / 'seed_0.py')
    assert (cfg.adapter.rank, cfg.schedule.max_iters) == (4, 7)
    assert cfg.work_dir == str(folder / 'four' / 'seed_0')
    assert lines[0] == '[1/3] two, seed 0'


def test_seeds_take_turns_but_are_told_by_run(suite, tmp_path):
    outcomes, lines = run(suite, tmp_path, only=['two', 'four'], seeds=[0, 5])
    assert [line.split('] ')[1] for line in lines] == [
        'two, seed 0',
        'four, seed 0',
        'two, seed 5',
        'four, seed 5',
    ]
    found = [(each.run.name, each.seed) for each in outcomes]
    assert found == [('two', 0), ('two', 5), ('four', 0), ('four', 5)]


def test_resume_runs_only_what_is_not_finished(suite, tmp_path):
    folder = tmp_path / 'runs'
    run(suite, folder, only=['two'], seeds=[1])
    with pytest.raises(ConfigError, match='there already; resume'):
        run(suite, folder, only=['two'], seeds=[1])
    outcomes, lines = run(
        suite, folder, only=['two', 'four'], seeds=[1], resume=True
    )
    assert lines[0].endswith('two, seed 1: finished before')
    assert outcomes[0].seconds == 0 < outcomes[1].seconds
    for name in ('two', 'four'):
        path = folder / name / 'seed_1' / 'runs.txt'
        assert path.read_text() == 'x'


def test_other_settings_in_the_same_folder_are_refused(suite, tmp_path):
    folder = tmp_path / 'runs'
    run(suite, folder, only=['two'])
    with pytest.raises(ConfigError, match='holds another run: method.beta'):
        run(
            suite,
            folder,
            only=['two'],
            options={'method.beta': 0.7},
            resume=True,
        )


def test_a_base_of_ones_own(tmp_path):
    text = (
        f'suite = dict(base={str(BASE)!r}, runs=dict(\n'
        "    a={}, b={'base': 'b.py', 'adapter.rank': 4}))"
    )
    path = write(tmp_path, text)
    write(tmp_path, f'_base_ = {str(BASE)!r}\nmethod = dict(beta=0.7)', 'b.py')
    suite = load_suite(path)
    assert suite.runs['a'].config().method.beta == 0.2
    assert suite.runs['b'].config().method.beta == 0.7
    assert suite.runs['b'].config().adapter.rank == 4
    everywhere = load_suite(path, base=str(tmp_path / 'b.py'))
    assert everywhere.runs['a'].config().method.beta == 0.7


# Configs of runs ----------------------------------------------------------


def test_files_and_settings_of_a_run_are_merged_in_order(tmp_path):
    write(tmp_path, 'a = 1\nmethod = dict(x=1, y=1)\nadapter = None', 'a.py')
    write(tmp_path, 'method = dict(y=2, z=2)', 'b.py')
    write(tmp_path, 'method = dict(_delete_=True, z=3)', 'c.py')
    text = """
suite = dict(
    base=['a.py', 'b.py'],
    settings={'method.z': 5, 'method.y': 5},
    runs=dict(
        plain={},
        own=dict(_base_='c.py', adapter=dict(_delete_=True, rank=4)),
        nested={'method': dict(z=6), 'method.y': 7}))
"""
    runs = load_suite(write(tmp_path, text)).runs
    assert runs['plain'].config().method == dict(x=1, y=5, z=5)
    assert runs['plain'].config().adapter is None
    assert runs['own'].config().method == dict(z=5, y=5)
    assert runs['own'].config().adapter == dict(rank=4)
    assert runs['nested'].config().method == dict(x=1, y=7, z=6)
    options = {'method': dict(y=8)}
    assert runs['nested'].config(options=options).method.y == 8
    # What is made of one config reaches no other.
    runs['plain'].config().method.x = 9
    assert runs['plain'].config().method.x == 1


def test_settings_are_found_by_their_keys():
    cfg = Config.fromfile(BASE)
    cfg.own = dict(b=[dict(c=3)])
    assert setting_of(cfg, 'own.b.0.c') == 3
    assert setting_of(cfg, 'method.beta') == 0.2
    # What the config does not say has a default.
    assert setting_of(cfg, 'method.alpha_s') == 3e-4
    assert setting_of(cfg, 'schedule.log_interval') == 50
    unknown = ('own.x', 'own.b.1', 'own.b.c', 'own.b.0.c.d', 'method.bta')
    for key in unknown:
        with pytest.raises(ConfigError, match=f'{key}: is to be tried out'):
            setting_of(cfg, key)


def test_only_a_seed_that_a_config_has_is_that_of_the_run(tmp_path):
    method = "dict(_delete_=True, type='gslora_mm.RandomDrop')"
    text = f'suite = dict(base="{BASE}", runs=dict(a=dict(method={method})))'
    run = load_suite(write(tmp_path, text)).runs['a']
    assert 'seed' not in run.config(seed=3).method


@pytest.mark.parametrize('name', ['retrain', 'random_drop'])
def test_methods_of_benchmarks_that_draw_have_the_seed_of_their_run(name):
    path = ROOT / 'configs/benchmarks/mini_digits.py'
    assert load_suite(path).runs[name].config(seed=3).method.seed == 3


def test_what_cannot_be_run_says_why(tmp_path):
    text = ONE + 'not_applicable=dict(b="it needs a classifier"))'
    suite = load_suite(write(tmp_path, text))
    assert [run.name for run in suite.selected(['a', 'b'])] == ['a']
    with pytest.raises(ConfigError, match='only: b: nothing to run: it need'):
        suite.selected(['b'])


def test_benchmarks_of_older_versions_are_told_what_to_do(tmp_path):
    path = write(tmp_path, 'benchmark = dict(runs=dict(a="a.py"))')
    with pytest.raises(
        ConfigError,
        match='^suite = .*own.py.: has no suite = dict.*benchmark = dict.* '
        'to be rewritten as that, see configs/benchmarks/README.md$',
    ):
        load_suite(path)


def test_the_base_of_a_suite_is_not_that_of_its_runs(tmp_path):
    path = write(tmp_path, 'suite = dict(base="b.py", runs=dict(a={}))')
    with pytest.raises(ConfigError, match="^suite.base = 'b.py': no such"):
        load_suite(path)
    text = f'suite = dict(base="{BASE}", runs=dict(a=dict(base="b.py")))'
    with pytest.raises(ConfigError, match="^suite.runs.a.base = 'b.py'"):
        load_suite(write(tmp_path, text))


def test_trials_that_are_the_same_are_refused(tmp_path):
    trials = [{'method.beta': 0.1}, {'method.beta': 0.2}, {'method.beta': 0.1}]
    text = f'suite = dict(base="own.py", runs=dict(a=dict(trials={trials})))'
    with pytest.raises(
        ConfigError,
        match=r"suite.runs.a.trials\[2\] = {'method.beta': 0.1}: is "
        r'trials\[0\] again',
    ):
        load_suite(write(tmp_path, text))


def test_sigterm_ends_what_has_been_started(suite, tmp_path):
    """Left alone, a run would go on and hold the lock of its work dir."""
    file = tmp_path / 'pid'
    script = (
        f'import os, time; open({str(file)!r}, "w").write(str(os.getpid())); '
        'time.sleep(60)'
    )

    def end():
        while not (file.exists() and file.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=end, daemon=True).start()
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_all(
            suite.selected(['two', 'four']),
            tmp_path / 'runs',
            [sys.executable, '-c', script],
            say=lambda line: None,
        )
    assert time.perf_counter() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) is before
    # The second run has not been started.
    assert not list((tmp_path / 'runs').glob('four/seed_0.json'))
