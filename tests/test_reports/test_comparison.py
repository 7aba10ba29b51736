"""Finished runs side by side."""

import re

import pytest

from gslora_mm.reports import write_report
from gslora_mm.reports.comparison import (
    SCORES_AND_COST,
    comparison_table,
    figures,
)
from gslora_mm.utils import ConfigError
from tests.test_tools.helpers import load_tool
from tests.work_dirs import make_work_dir


def make_report(folder, **kwargs):
    make_work_dir(folder, **kwargs)
    return write_report(folder, pictures=False)


def cells(text, row):
    line = text.splitlines()[row + 2]
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_one_run(tmp_path):
    report = make_report(tmp_path / 'a')
    text = comparison_table({'plain': [report]}, SCORES_AND_COST)
    header = [cell.strip() for cell in text.split('\n')[0].split('|')[1:-1]]
    assert header[:5] == ['Run', 'Runs', 'Step', 'AP_f', 'AP_r']
    first = dict(zip(header, cells(text, 0), strict=True))
    step = report['steps'][0]
    assert first['Run'] == 'plain' and first['Runs'] == '1'
    assert first['AP_f'] == f'{100 * step["forget_score"]:.2f}'
    assert first['AP_o'] == '-'
    assert first['H'] == f'{100 * step["h_mean"]:.2f}'
    assert (first['zero groups'], first['groups']) == ('2.0', '6')
    assert first['trained %'] == f'{100 * 24576 / 1_124_576:.3f}'
    assert first['seconds'] == f'{step["train_seconds"]:.1f}'
    assert cells(text, 1)[2] == '2'


def test_mean_and_spread_over_seeds(tmp_path):
    reports = [make_report(tmp_path / str(i), seed=i) for i in range(3)]
    values = [100 * report['steps'][1]['h_mean'] for report in reports]
    mean = sum(values) / 3
    spread = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    text = comparison_table({'plain': reports})
    assert f'{mean:.2f} ± {spread:.2f}' in cells(text, 1)


def test_retained_classes_without_images_have_a_column_of_their_own(tmp_path):
    report = make_report(tmp_path / 'a')
    assert 'AP_m' not in comparison_table({'plain': [report]})
    report['steps'][0]['missing_score'] = 0.25
    text = comparison_table({'plain': [report]})
    header = [cell.strip() for cell in text.split('\n')[0].split('|')[1:-1]]
    shown = dict(zip(header, cells(text, 0), strict=True))
    assert shown['AP_m'] == '25.00'


def test_figures_of_a_step_without_scores():
    found = figures(
        dict(
            forget_score=None,
            retain_score=0.5,
            retain_before=None,
            old_score=None,
            h_mean=None,
            h_mean_upper_bound=0.0,
            groups={},
        )
    )
    assert found['{}_r'] == 50 and found['{}_r lost'] is None
    assert found['H'] is None and found['H / bound'] is None
    assert found['seconds'] is None


def test_refuses_what_cannot_stand_side_by_side(tmp_path):
    two = make_report(tmp_path / 'a')
    one = make_report(tmp_path / 'b', finished=1)
    with pytest.raises(ConfigError, match='plain: .*equally many steps'):
        comparison_table({'plain': [two, one]})


def test_the_tool(tmp_path, monkeypatch, capsys):
    for name in 'ab':
        make_report(tmp_path / name, seed=ord(name))
    tool = load_tool('analysis_tools/compare_runs')
    out, plot = tmp_path / 'table.md', tmp_path / 'plot.png'
    arguments = [f'both={tmp_path / "a"},{tmp_path / "b"}', '--out', str(out)]
    monkeypatch.setattr(
        'sys.argv', ['compare_runs.py', *arguments, '--plot', str(plot)]
    )
    tool.main()
    assert out.read_text() == capsys.readouterr().out
    assert re.search(r'\| both +\| +2 \| +1 \|', out.read_text())
    assert plot.is_file()
    monkeypatch.setattr('sys.argv', ['compare_runs.py', 'nothing'])
    with pytest.raises(SystemExit, match='error: .*NAME=DIR'):
        tool.main()
