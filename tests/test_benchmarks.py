"""The benchmarks that put all methods side by side, and their tables."""

import copy
import sys
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from gslora_mm.bench.leaderboard import render_leaderboard
from gslora_mm.bench.results import collect
from gslora_mm.bench.suite import check_settings, load_suite, setting_of
from gslora_mm.bench.tune import run_tuned, settings_name, tried_values
from gslora_mm.datasets import build_dataset
from gslora_mm.registry import METHODS, class_of
from gslora_mm.sequence.identity import dataset_config
from gslora_mm.toy_data import (
    make_mini_coco,
    make_mini_digits,
    make_mini_faces,
)
from gslora_mm.utils import ConfigError, load_json
from tests.step_models import build_last_step

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted((ROOT / 'configs' / 'benchmarks').glob('*.py'))
LR = 'schedule.optim_wrapper.optimizer.lr'
#: Those that train no other weights, beside what ends with _lora.
WITH_ADAPTER = {'fg_oriu', 'gs_lora', 'gs_lora_pp'}
REFERENCES = {'retrain', 'retrain_replay'}
#: As their configs have them: nothing is chosen.
LEVELS = {'masked_distillation', 'counterfactual', 'noise_and_distil'}
RUNS = [
    pytest.param(run, path.stem, id=f'{path.stem}-{run.name}')
    for path in BENCHMARKS
    for run in load_suite(path).runs.values()
]


@pytest.fixture(params=BENCHMARKS, ids=lambda path: path.stem)
def benchmark(request):
    return load_suite(request.param)


@pytest.fixture
def table(benchmark):
    """The committed results."""
    return load_json(ROOT / 'benchmarks' / f'{benchmark.name}.json')


@pytest.mark.parametrize(('run', 'name'), RUNS)
def test_a_run_builds_with_all_that_is_tried(run, name):
    """Model, adapter, method and the config of every step."""
    cfg = run.config()
    check_settings(cfg)
    model = build_last_step(cfg)
    has_adapter = run.name in WITH_ADAPTER | LEVELS - {'noise_and_distil'}
    has_adapter |= run.name.endswith('_lora')
    assert bool(model.groups) == has_adapter
    method = run.name
    if method != 'gs_lora':
        method = method.removesuffix('_lora')
    if run.name not in REFERENCES | LEVELS:
        assert cfg.schedule.max_iters == (200 if name == 'mini_coco' else 300)
        assert model.method.name == method
    if run.name != 'masked_distillation':  # it finds its rate
        assert_annealed_down(cfg)
    for settings in run.trials:
        assert any(setting_of(cfg, k) != v for k, v in settings.items())
        tried = run.config(options=settings)
        check_settings(tried)
        assert_annealed_down(tried)


def assert_annealed_down(cfg):
    """No learning rate is below the one that its schedule ends at."""
    schedulers = cfg.schedule.get('param_scheduler', ())
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    lr = setting_of(cfg, LR)
    assert all(lr > each.get('eta_min', 0) for each in schedulers)


def test_every_method_has_a_row(benchmark):
    METHODS.import_from_location()
    known = {
        cls.name
        for cls in METHODS.module_dict.values()
        if cls.__module__.startswith('gslora_mm.')
    }
    shown = {
        class_of(run.config().method, METHODS).name
        for run in benchmark.runs.values()
    }
    assert shown | set(benchmark.not_applicable) == known


def test_the_same_effort_for_every_method(benchmark):
    """All but the references have as many trials, of alike settings."""
    runs = benchmark.runs.values()
    untried = {run.name for run in runs if not run.trials}
    assert untried == REFERENCES | (LEVELS & set(benchmark.runs))
    most = max(len(run.trials) for run in runs)
    for run in runs:
        if run.name in untried:
            continue
        # Without a bound, no rate of gradient ascent does well on a detector.
        by_bound = benchmark.name, run.name
        by_bound = by_bound == ('mini_coco', 'gradient_ascent')
        values = tried_values(run)
        assert (next(iter(values)) == LR) != by_bound
        assert LR in values
        assert len(run.trials) == most or run.name == 'fine_tune'


def test_the_table_is_of_these_runs_and_trials(benchmark, table):
    rows = {method['name']: method for method in table['methods']}
    assert set(rows) == {*benchmark.runs, *benchmark.not_applicable}
    assert Path(table['file']) == Path(benchmark.file).relative_to(ROOT)
    assert table['title'] == benchmark.title
    for run in benchmark.runs.values():
        keys = list(tried_values(run))
        trials = [{}, *run.trials] if run.trials else []
        assert [t['settings'] for t in rows[run.name]['trials']] == trials
        assert [t['name'] for t in rows[run.name]['trials']] == [
            settings_name(settings, keys) for settings in trials
        ]
        chosen = rows[run.name]['chosen']
        cfg = run.config(options=chosen['settings'])
        values = {key: setting_of(cfg, key) for key in keys}
        assert chosen['values'] == values


def test_the_table_is_what_is_made_of_its_results(benchmark, table):
    figures = {
        'H-Mean against seconds': f'{benchmark.name}_seconds.png',
        'What is kept against what is left': f'{benchmark.name}_forget.png',
    }
    path = ROOT / 'benchmarks' / f'{benchmark.name}.md'
    assert render_leaderboard(table, figures) == path.read_text()
    assert all(path.with_name(file).exists() for file in figures.values())


def test_results_say_what_is_scored_on(benchmark):
    results = collect(benchmark, {}, [], [0], tuned=True)
    assert 'test' in results['scored_on']
    assert 'tune' in results['tuning']['scored_on']


def test_results_do_not_say_where_the_project_lies(benchmark, monkeypatch):
    monkeypatch.chdir(ROOT)
    results = collect(benchmark, {}, [], [0], tuned=True)
    assert results['file'] == f'configs/benchmarks/{benchmark.name}.py'


def test_trials_and_runs_are_scored_on_images_of_their_own(
    benchmark, tmp_path
):
    make = dict(
        mini_coco=lambda root: make_mini_coco(
            root, num_train=4, num_val=2, num_tune=3, num_test=5
        ),
        mini_digits=lambda root: make_mini_digits(
            root, train_copies=2, val_copies=2, max_scans=1, test_copies=3
        ),
        mini_faces=lambda root: make_mini_faces(
            root, num_train=2, num_val=2, num_pairs=1, num_tune=1, num_test=2
        ),
    )
    root = make[benchmark.name](tmp_path / benchmark.name)
    run = benchmark.runs['gs_lora']
    cfg = run.config()
    before = cfg.to_dict()
    init_default_scope(cfg.default_scope)
    parts = dict(
        test=({}, dict(mini_coco=5, mini_digits=30)),
        tune=(benchmark.trial_settings, dict(mini_coco=3, mini_digits=10)),
    )
    for part, (settings, sizes) in parts.items():
        cfg = run.config(options=settings)
        data = copy.deepcopy(dataset_config(cfg.val_dataloader))
        data.data_root = str(root)
        dataset = build_dataset(data.to_dict())
        dataset.full_init()
        faces = dict(test=200, tune=100)[part]
        assert len(dataset) == sizes.get(benchmark.name, faces)
        assert f'/{part}/' in dataset.get_data_info(0)['img_path']
        # Of the other parts nothing is left, and training is as ever.
        others = {'val', 'tune', 'test', 'pairs'} - {part}
        scored = str(cfg.val_evaluator)
        assert not [name for name in others if f'_{name}.' in scored]
        assert 'pairs' not in scored
        assert cfg.train_dataloader.to_dict() == before['train_dataloader']


def test_nothing_is_wrong_before_the_first_process(
    benchmark, tmp_path, monkeypatch
):
    """With references, whose schedules are others, and one that is tried."""
    monkeypatch.chdir(tmp_path)
    files = []
    for settings in ({}, benchmark.trial_settings):
        cfg = benchmark.runs['gs_lora'].config(options=settings)
        data = dataset_config(cfg.val_dataloader)
        files.append(Path(data.data_root, data.ann_file))
    files[0].parent.mkdir(parents=True)
    files[0].touch()
    with pytest.raises(ConfigError, match='tune.* no such file in .data/mini'):
        run_tuned(benchmark, tmp_path, [], only=['gs_lora'], seeds=[1])
    files[1].touch()
    trials, outcomes = run_tuned(
        benchmark,
        tmp_path,
        [sys.executable, '-c', 'raise SystemExit("not trained")'],
        only=['retrain', 'gs_lora'],
        seeds=[10],
        say=lambda line: None,
    )
    num_trials = 1 + len(benchmark.runs['gs_lora'].trials)
    assert len(trials['gs_lora']) == num_trials
    assert all('not trained' in trial['error'] for trial in trials['gs_lora'])
    assert [outcome.run.name for outcome in outcomes] == ['retrain']
    assert 'not trained' in outcomes[0].error


def test_the_benchmarks_have_the_same_runs():
    names = [
        [name for name in load_suite(path).runs if name not in LEVELS]
        for path in BENCHMARKS
    ]
    assert names[0] == names[1] == names[2]
