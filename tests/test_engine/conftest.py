import pytest

from tests.sequences import make_inputs
from tests.small_benchmarks import make_benchmark


@pytest.fixture(scope='session')
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp('inputs'))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pictures have tests of their own and take longer than a step here."""
    monkeypatch.setattr(
        'gslora_mm.visualization.report._draw_pictures', lambda *args: False
    )


@pytest.fixture
def benchmark(tmp_path):
    return make_benchmark(tmp_path)
