"""The baselines, and the benchmarks that put them side by side."""

import copy
import itertools
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.bench.benchmark import MethodOutcome, run_benchmark
from gslora_mm.bench.benchmark_config import load_benchmark
from gslora_mm.bench.results import collect
from gslora_mm.bench.suite import check_settings
from gslora_mm.bench.trials import data_of, setting_of
from gslora_mm.datasets import build_dataset
from gslora_mm.registry import METHODS, class_of
from gslora_mm.toy_data import (
    make_mini_coco,
    make_mini_digits,
    make_mini_faces,
)
from gslora_mm.utils import ConfigError
from tests.step_models import build_last_step

CONFIGS = Path(__file__).parents[1] / 'configs'
BENCHMARKS = sorted((CONFIGS / 'benchmarks').glob('*.py'))
BASELINES = sorted((CONFIGS / 'baselines').glob('*/*.py'))
LR = 'schedule.optim_wrapper.optimizer.lr'
#: Those that train no other weights, beside what ends with _lora.
WITH_ADAPTER = {'fg_oriu', 'gs_lora', 'gs_lora_pp'}


def name_of(path):
    return f'{path.parent.name}-{path.stem}'


@pytest.fixture(params=BENCHMARKS, ids=lambda path: path.stem)
def benchmark(request):
    return load_benchmark(request.param)


@pytest.mark.parametrize('path', BASELINES, ids=name_of)
def test_a_baseline_builds_with_all_that_is_searched(path):
    """Model, adapter, method and the config of every step."""
    cfg = Config.fromfile(path)
    check_settings(cfg)
    model = build_last_step(cfg)
    has_adapter = path.stem in WITH_ADAPTER or path.stem.endswith('_lora')
    assert bool(model.groups) == has_adapter
    name = path.stem
    if name != 'gs_lora':
        name = name.removesuffix('_lora')
    if 'retrain' not in path.stem:
        length = 200 if path.parent.name == 'mini_coco' else 300
        assert cfg.schedule.max_iters == length
        assert model.method.name == name
    benchmark = load_benchmark(
        CONFIGS / 'benchmarks' / f'{path.parent.name}.py'
    )
    assert Path(benchmark.runs[path.stem]).resolve() == path
    for key, values in benchmark.tune.search.get(path.stem, {}).items():
        assert set(values) != {setting_of(cfg, key)}
        for value in values:
            tried = copy.deepcopy(cfg)
            tried.merge_from_dict({key: value})
            check_settings(tried)
            assert_annealed_down(tried)
    assert_annealed_down(cfg)


def assert_annealed_down(cfg):
    """No learning rate is below the one that its schedule ends at."""
    schedulers = cfg.schedule.get('param_scheduler', ())
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    lr = setting_of(cfg, LR)
    assert all(lr > each.get('eta_min', 0) for each in schedulers)


def test_every_method_has_a_row(benchmark):
    names = {path.stem for path in BASELINES}
    assert set(benchmark.runs) == names
    METHODS.import_from_location()
    known = {
        cls.name
        for cls in METHODS.module_dict.values()
        if cls.__module__.startswith('gslora_mm.')
    }
    shown = {
        class_of(Config.fromfile(config).method, METHODS).name
        for config in benchmark.runs.values()
    }
    assert shown | set(benchmark.not_applicable) == known


def test_the_same_effort_for_every_method(benchmark):
    """All but the references are searched, over alike spaces."""
    tune = benchmark.tune
    references = {'retrain', 'retrain_replay'}
    assert set(benchmark.runs) - set(tune.search) == references
    for name, space in tune.search.items():
        # Without a bound, no rate of gradient ascent does well on a detector.
        by_bound = (benchmark.name, name) == ('mini_coco', 'gradient_ascent')
        assert (next(iter(space)) == LR) != by_bound
        assert LR in space
        cfg = Config.fromfile(benchmark.runs[name])
        num_trials = 1 + sum(
            value != setting_of(cfg, key)
            for key, values in space.items()
            for value in values
        )
        assert num_trials >= tune.budget or name == 'fine_tune'


def test_results_say_what_is_scored_on(benchmark):
    results = collect(benchmark, [], [0], tuned=True)
    assert 'test' in results['scored_on']
    assert 'tune' in results['tuning']['scored_on']


def test_results_do_not_say_where_the_project_lies(benchmark, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    outcomes = [MethodOutcome(name) for name in benchmark.runs]
    for method in collect(benchmark, outcomes, [0], tuned=True)['methods']:
        folder = f'configs/baselines/{benchmark.name}'
        assert method['config'] == f'{folder}/{method["name"]}.py'


def test_trials_and_runs_are_scored_on_images_of_their_own(
    benchmark, tmp_path
):
    make = dict(
        mini_coco=lambda root: make_mini_coco(
            root, 4, 2, num_tune=3, num_test=5
        ),
        mini_digits=lambda root: make_mini_digits(
            root, 2, 2, max_scans=1, test_copies=3
        ),
        mini_faces=lambda root: make_mini_faces(
            root, num_train=2, num_val=2, num_pairs=1, num_tune=1, num_test=2
        ),
    )
    root = make[benchmark.name](tmp_path / benchmark.name)
    cfg = Config.fromfile(benchmark.runs['gs_lora'])
    before = cfg.to_dict()
    init_default_scope(cfg.default_scope)
    parts = dict(
        test=(benchmark.settings, dict(mini_coco=5, mini_digits=30)),
        tune=(benchmark.tune.settings, dict(mini_coco=3, mini_digits=10)),
    )
    for part, (settings, sizes) in parts.items():
        cfg.merge_from_dict(copy.deepcopy(settings))
        data = copy.deepcopy(data_of(cfg.val_dataloader))
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
    cfg = Config.fromfile(benchmark.runs['gs_lora'])
    files = []
    for settings in (benchmark.settings, benchmark.tune.settings):
        cfg.merge_from_dict(copy.deepcopy(settings))
        data = data_of(cfg.val_dataloader)
        files.append(Path(data.data_root, data.ann_file))
    files[0].parent.mkdir(parents=True)
    files[0].touch()
    with pytest.raises(ConfigError, match='tune.* no such file in .data/mini'):
        run_benchmark(benchmark, tmp_path, [], methods=['gs_lora'], seeds=[1])
    files[1].touch()
    found = run_benchmark(
        benchmark,
        tmp_path,
        [sys.executable, '-c', 'raise SystemExit("not trained")'],
        methods=['retrain', 'gs_lora'],
        seeds=[10],
        say=lambda line: None,
    )
    outcomes = {each.name: each for each in found}
    assert 'not trained' in outcomes['gs_lora'].reason
    assert len(outcomes['gs_lora'].trials) == benchmark.tune.budget
    assert 'not trained' in outcomes['retrain'].runs[0].error


def test_names_in_the_folders_agree():
    folders = itertools.groupby(BASELINES, lambda path: path.parent.name)
    names = {folder: [p.stem for p in paths] for folder, paths in folders}
    assert list(names) == [path.stem for path in BENCHMARKS]
    first, *others = names.values()
    assert all(each == first for each in others)
