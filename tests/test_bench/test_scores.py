"""What methods are compared by."""

import pytest

from gslora_mm.bench.scores import (
    gap,
    mean_h,
    run_figures,
    step_figures,
    stored_bytes,
)
from gslora_mm.work_dir import StepDir

STEP = dict(
    step=1,
    forget_score=0.1,
    retain_score=0.8,
    old_score=None,
    h_mean=0.75,
    per_class=dict(a=0.1, b=0.9, c=None),
    iterations=30,
    trainable_share=0.01,
    peak_memory_mb=500,
    prepare_seconds=2.0,
    train_seconds=10.0,
)


def test_gap_is_the_mean_absolute_difference():
    others = dict(a=0.4, b=0.8, c=0.5, d=0.7)
    assert gap(STEP['per_class'], others) == pytest.approx((0.3 + 0.1) / 2)
    assert gap(others, others) == 0
    assert gap(dict(a=None), others) is None
    assert gap(dict(e=0.5), others) is None


def test_mean_h_counts_what_is_undefined_as_nothing():
    assert mean_h([STEP, dict(h_mean=None)]) == 0.75 / 2


def test_stored_bytes(tmp_path):
    assert stored_bytes(StepDir(tmp_path)) is None
    (tmp_path / 'merged.pth').write_bytes(bytes(500))
    (tmp_path / 'result.json').write_bytes(bytes(7))
    assert stored_bytes(StepDir(tmp_path)) == 500
    (tmp_path / 'method.safetensors').write_bytes(bytes(30))
    assert stored_bytes(StepDir(tmp_path)) == 530
    (tmp_path / 'adapter.safetensors').write_bytes(bytes(20))
    assert stored_bytes(StepDir(tmp_path)) == 50


def test_figures_of_a_step_and_of_a_run(tmp_path):
    (tmp_path / 'adapter.safetensors').write_bytes(bytes(20))
    first = step_figures(STEP, StepDir(tmp_path), None)
    assert first['seconds'] == 12 and first['gap'] is None
    second = dict(STEP, step=2, h_mean=0.65, old_score=0.3, peak_memory_mb=400)
    reference = dict(per_class=dict(a=0.3))
    second = step_figures(second, StepDir(tmp_path), reference)
    assert second['gap'] == pytest.approx(0.2)
    assert run_figures([first, second]) == dict(
        h_mean=pytest.approx(0.7),
        left_score=0.3,
        seconds=12,
        iterations=30,
        trainable_share=0.01,
        stored_bytes=20,
        gap=pytest.approx(0.2),
        peak_memory_mb=500,
    )
