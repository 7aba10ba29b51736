import runpy
import sys
from pathlib import Path

import pytest

from tests.work_dirs import make_work_dir

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'report.py'


@pytest.fixture
def run(monkeypatch):
    def run_tool(*args):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run_tool


def test_makes_the_report_again(tmp_path, run, capsys):
    make_work_dir(tmp_path)
    run(tmp_path, '--no-pictures')
    assert (tmp_path / 'report.json').exists()
    out = capsys.readouterr().out
    assert f'{tmp_path}/report.md and {tmp_path}/report.html' in out


def test_not_a_work_dir(tmp_path, run):
    with pytest.raises(SystemExit, match='^error: work_dir'):
        run(tmp_path)
