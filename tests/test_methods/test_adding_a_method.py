"""The method that docs/en/adding_a_method.md adds, in a real run."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from gslora_mm.registry import METHODS
from gslora_mm.sequence import ForgettingSequence
from tests.class_sequences import make_class_inputs, tiny_class_sequence

PAGE = Path(__file__).parents[2] / 'docs/en/adding_a_method.md'


def example():
    """The code of the page, as in a file of the reader's own."""
    fences = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    return next(code for code in fences if 'class ' in code)


@pytest.fixture
def method(tmp_path, monkeypatch):
    """The class, registered as long as a test lasts."""
    (tmp_path / 'capped_ascent.py').write_text(example())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'capped_ascent', raising=False)
    METHODS.import_from_location()
    yield importlib.import_module('capped_ascent').CappedAscent
    METHODS.module_dict.pop('CappedAscent')


def test_it_is_short():
    assert len(example().splitlines()) <= 31


@pytest.mark.parametrize('name', ['CappedAscent', 'gslora_mm.CappedAscent'])
def test_it_runs_in_a_sequence(method, name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        'gslora_mm.reports.report._draw_pictures', lambda *args: False
    )
    cfg = tiny_class_sequence(
        make_class_inputs(tmp_path / 'inputs'),
        tmp_path / 'run',
        schedule__max_iters=6,
    )
    cfg.method = dict(type=name, beta=[0.2, 0.1], max_norm=[0.5, 0.25])
    # An ascent never ends: the hook that waits for its end is refused.
    assert not method.ends_at_zero
    report = ForgettingSequence(cfg).run()
    assert report['method'] == method.name == 'capped_ascent'
    for step, cap in zip(report['steps'], (0.5, 0.25), strict=True):
        norms = [group['norm'] for group in step['groups'].values()]
        assert norms and max(norms) == pytest.approx(cap, rel=1e-3)
