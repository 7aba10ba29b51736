"""What is made of the finished runs of a benchmark."""

from dataclasses import replace

import pytest

from tests.small_benchmarks import results, run


def test_results_by_hand(benchmark, tmp_path):
    outcomes, _ = run(
        benchmark, tmp_path, seeds=[0, 4], only=['good', 'retrain']
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
    assert found['file'].endswith('own.py')
    assert found['tuning']['budget'] == 3
    assert found['tuning']['search'] == dict(
        good={'method.beta': [0.1, 0.35]}, broken={'method.beta': [0.4]}
    )
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
        benchmark, tmp_path, seeds=[0, 4], only=['good', 'retrain']
    )
    runs = outcomes['good'].runs
    runs[1] = replace(runs[1], error='exit status 1: it broke')
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
        benchmark, tmp_path, only=['good'], tune=False, options=options
    )
    found = results(benchmark, outcomes, tuned=False, options=options)
    assert found['scored_on'] == 'mine.json'
    assert found['settings'] == options
    assert found['methods'][0]['chosen']['values'] == {'method.beta': 0.35}


def test_without_the_reference_there_is_no_gap(benchmark, tmp_path):
    outcomes, _ = run(benchmark, tmp_path, only=['good'])
    (good,) = results(benchmark, outcomes)['methods']
    assert good['summary']['gap'] == dict(mean=None, std=None)
