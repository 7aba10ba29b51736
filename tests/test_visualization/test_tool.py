import subprocess
import sys
from pathlib import Path

from tests.work_dirs import make_work_dir

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'report.py'


def run(*args):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        cwd=TOOL.parents[2],
        env={'PYTHONPATH': str(TOOL.parents[2]), 'OMP_NUM_THREADS': '1'},
    )


def test_makes_the_report_again(tmp_path):
    make_work_dir(tmp_path)
    done = run(tmp_path, '--no-pictures')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'report.json').exists()
    assert 'report.md' in done.stdout


def test_not_a_work_dir(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: work_dir')
