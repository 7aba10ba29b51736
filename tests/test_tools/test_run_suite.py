"""tools/analysis_tools/run_suite.py, with real runs."""

import pytest

from gslora_mm.utils import load_json
from tests.sequences import make_inputs, tiny_sequence
from tests.test_tools.helpers import load_tool


@pytest.fixture
def suite(tmp_path):
    inputs = make_inputs(tmp_path / 'inputs')
    tiny_sequence(
        inputs, tmp_path / 'unused', forgetting__steps=[['one']]
    ).dump(tmp_path / 'base.py')
    path = tmp_path / 'own.py'
    path.write_text("""
suite = dict(
    title='Two ranks',
    base='base.py',
    runs={
        'low': {'adapter.rank': 2},
        'broken': {'forgetting.steps': [['tree']]},
    })
""")
    return path


def test_runs_a_suite_and_writes_a_table(suite, tmp_path, capfd):
    main = load_tool('analysis_tools/run_suite').main
    folder = tmp_path / 'runs'
    arguments = [str(suite), '--work-dir', str(folder), '--seeds', '4']
    arguments += ['--cfg-options', 'schedule.max_iters=2']
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1
    out = capfd.readouterr().out
    assert 'H-Mean' in out  # the run's own progress
    text = (folder / 'suite.md').read_text()
    assert text in out
    assert text.startswith('# Two ranks\n\n| Run ')
    (row,) = [line for line in text.splitlines() if line.startswith('| low')]
    assert row.split()[3:6:2] == ['1', '1']  # runs, step
    assert '1 of 2 failed' in text
    assert 'ConfigError: forgetting.steps[0]' in text
    report = load_json(folder / 'low' / 'seed_4' / 'report.json')
    assert report['steps'][0]['iterations'] == 2
    low, broken = load_json(folder / 'suite.json')
    assert low['error'] is None and low['seconds'] > 0
    assert 'tree' in broken['error']

    # Nothing is left to do for this one.
    main([*arguments[:5], '--resume', '--only', 'low', *arguments[5:]])
    assert 'finished before' in capfd.readouterr().out
    assert '| low' in (folder / 'suite.md').read_text()


def test_lists_the_runs(suite, capsys):
    load_tool('analysis_tools/run_suite').main([str(suite), '--list'])
    assert capsys.readouterr().out.startswith("low: {'adapter.rank': 2}\n")


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['rnak'], "error: suite: unknown name 'rnak'.*'rank'"),
        (['rank', '--only', 'rank_3'], "error: --only: .*'rank_3'"),
        (['rank', '--seeds', 'a,b'], "error: --seeds 'a,b'"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, tmp_path):
    main = load_tool('analysis_tools/run_suite').main
    with pytest.raises(SystemExit, match=message):
        main([*arguments, '--work-dir', str(tmp_path / 'runs')])
    assert not (tmp_path / 'runs').exists()
