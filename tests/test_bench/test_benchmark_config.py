"""What a benchmark is, and its file."""

import pytest

from gslora_mm.bench.benchmark_config import load_benchmark
from gslora_mm.utils import ConfigError
from tests.small_benchmarks import write


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
