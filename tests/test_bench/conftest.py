import pytest

from tests.small_benchmarks import make_benchmark


@pytest.fixture
def benchmark(tmp_path):
    return make_benchmark(tmp_path)
