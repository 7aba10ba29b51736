"""tools/analysis_tools/run_suite.py, with real runs."""

import pytest
from mmengine.config import Config

from gslora_mm.bench.suite import load_suite
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


def test_writes_configs_that_can_be_run_by_themselves(suite, tmp_path, capsys):
    main = load_tool('analysis_tools/run_suite').main
    folder = tmp_path / 'dumped'
    main([str(suite), '--dump', str(folder), '--only', 'low', '--seeds', '4'])
    assert capsys.readouterr().out == f'{folder / "low.py"}\n'
    cfg = Config.fromfile(folder / 'low.py')
    assert cfg.adapter.rank == 2 and cfg.randomness.seed == 4
    run = load_suite(suite).runs['low']
    assert cfg.to_dict() == run.config(4).to_dict()


def test_dumps_a_run_of_a_benchmark_as_its_name_says(tmp_path):
    main = load_tool('analysis_tools/run_suite').main
    arguments = ['mini_digits', '--only', 'der', '--dump', str(tmp_path)]
    main([*arguments, '--cfg-options', 'schedule.max_iters=20'])
    cfg = Config.fromfile(tmp_path / 'der.py')
    assert cfg.method.type == 'gslora_mm.DER' and cfg.schedule.max_iters == 20
    assert cfg.val_dataloader.dataset.ann_file == 'test.txt'
    with pytest.raises(SystemExit, match="run 'der': adapter.rnk: cannot"):
        main([*arguments, '--cfg-options', 'adapter.rnk=2'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['rnak'], "error: suite: unknown name 'rnak'.*'rank'"),
        (['rank', '--only', 'rank_3'], "error: --only: .*'rank_3'"),
        (['rank', '--base', 'no.py'], "error: --base = 'no.py': no such"),
        (['rank', '--seeds', 'a,b'], "error: --seeds = 'a,b'"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, tmp_path):
    main = load_tool('analysis_tools/run_suite').main
    with pytest.raises(SystemExit, match=message):
        main([*arguments, '--work-dir', str(tmp_path / 'runs')])
    assert not (tmp_path / 'runs').exists()
