"""tools/analysis_tools/benchmark_methods.py, with real runs."""

from pathlib import Path

import pytest

from gslora_mm.utils import load_json
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.test_tools.helpers import load_tool

TOOL = 'analysis_tools/benchmark_methods'
DIGITS = Path(__file__).parents[2] / 'benchmarks/mini_digits.json'


@pytest.fixture
def suite(tmp_path):
    inputs = make_class_inputs(tmp_path / 'inputs')
    cfg = tiny_class_sequence(
        inputs, tmp_path / 'unused', schedule__max_iters=4
    )
    cfg.dump(tmp_path / 'base.py')
    path = tmp_path / 'own.py'
    path.write_text(f"""
suite = dict(
    title='Two methods',
    base='base.py',
    not_applicable=dict(other='it is for detectors'),
    trial_settings={{
        'val_dataloader.dataset.data_prefix': {str(inputs / 'train')!r}}},
    trial_steps=1,
    runs=dict(
        retrain=dict(
            method=dict(_delete_=True, type='gslora_mm.Retrain'),
            adapter=None),
        gs_lora=dict(trials=[{{'method.beta': 0.1}}])))
""")
    return path


def figures(results):
    """All results but times, memory and the date."""
    if isinstance(results, dict):
        return {
            key: figures(value)
            for key, value in results.items()
            if key not in ('seconds', 'peak_memory_mb', 'days')
        }
    if isinstance(results, list):
        return [figures(value) for value in results]
    return results


@pytest.mark.slow
def test_a_leaderboard_and_the_same_one_again(suite, tmp_path, capfd):
    main = load_tool(TOOL).main
    work_dir, out = tmp_path / 'runs', tmp_path / 'out'
    arguments = [str(suite), '--work-dir', str(work_dir), '--out', str(out)]
    arguments += ['--seeds', '7']
    main(arguments)
    text = (out / 'own.md').read_text()
    assert text in capfd.readouterr().out
    assert text.startswith('# Two methods\n\n- Date: 20')
    first = load_json(out / 'own.json')
    assert sorted(each['name'] for each in first['methods'][:2]) == [
        'gs_lora',
        'retrain',
    ]
    (lora,) = (e for e in first['methods'] if e['name'] == 'gs_lora')
    assert [trial['number'] for trial in lora['trials']] == [1, 2]
    assert {trial['h_mean'] for trial in lora['trials']} != {None}
    steps = lora['runs'][0]['steps']
    assert [step['iterations'] for step in steps] == [4, 4]
    assert all(step['gap'] > 0 for step in steps)
    (folder,) = work_dir.glob('runs/gs_lora/*/seed_7')
    size = (folder / 'step_01' / 'adapter.safetensors').stat().st_size
    assert steps[0]['stored_bytes'] == size
    # Whichever evaluated the model that they start from, and which did not.
    done = [run.parent for run in work_dir.glob('*/*/*/seed_*/report.md')]
    assert len(done) == 4
    assert all((run / 'report' / 'pictures.png').is_file() for run in done)
    assert first['methods'][2]['reason'] == 'it is for detectors'
    assert first['attacks'] == {} and '| probe' not in text
    for name in ('seconds', 'forget'):
        assert f'(own_{name}.png)' in text
        assert (out / f'own_{name}.png').is_file()

    # Killed while one step was under way and another report was written.
    (folder / 'step_02' / 'result.json').unlink()
    (folder / 'report.json').unlink()
    other = work_dir / 'runs/retrain/as_configured/seed_7'
    (other / 'report.json').write_text('{"steps": [')
    times = (other / 'step_01' / 'result.json').stat().st_mtime_ns
    main(arguments)
    assert figures(load_json(out / 'own.json')) == figures(first)
    assert (other / 'step_01' / 'result.json').stat().st_mtime_ns == times
    said = capfd.readouterr().out
    assert said.count('finished before') == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['mini_coc'], "error: suite: unknown name 'mini_coc'.*'mini_coco'"),
        (['own.py'], "error: suite = 'own.py': no such file"),
        (
            ['mini_coco', '--methods', 'gslora'],
            "error: --methods: .*'gs_lora'",
        ),
        (['mini_coco', '--seeds', 'a,b'], "error: --seeds = 'a,b'"),
        (['mini_coco', '--jobs', '0'], 'error: --jobs = 0: must be at'),
        (
            ['mini_coco', '--trials-of', 'no.json'],
            "error: --trials-of = 'no.json': holds no results",
        ),
        (
            ['mini_digits', '--trials-of', str(DIGITS), '--no-tune'],
            'error: --trials-of = .*: without trials, leave it out',
        ),
        (
            ['mini_digits', '--trials-of', str(DIGITS), '--cfg-options']
            + ['schedule.batch_size=8'],
            'error: --trials-of = .*: its runs had .*batch_size',
        ),
        (
            ['mini_coco', '--trials-of', str(DIGITS)],
            "error: --trials-of = .*is of 'mini_digits', not of 'mini_coco'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, tmp_path):
    main = load_tool(TOOL).main
    folder = tmp_path / 'runs'
    with pytest.raises(SystemExit, match=message):
        main([*arguments, '--work-dir', str(folder), '--out', str(folder)])
    assert not folder.exists()


def test_failures_do_not_hide_the_others(suite, tmp_path, capfd):
    broken = "{'train_dataloader.dataset.data_prefix': 'no_such_tree'}"
    text = suite.read_text()
    suite.write_text(text.replace('retrain=dict(', f'retrain=dict({broken},'))
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        load_tool(TOOL).main(
            [str(suite), '--work-dir', str(tmp_path / 'runs'), '--no-tune']
            + ['--out', str(out), '--cfg-options', 'schedule.max_iters=1']
        )
    assert stop.value.code == 1
    lora, retrain, _ = load_json(out / 'own.json')['methods']
    assert lora['summary']['iterations']['mean'] == 1
    assert retrain['name'] == 'retrain' and retrain['summary'] is None
    assert 'tree' in retrain['runs'][0]['error']
    assert 'tree' in (out / 'own.md').read_text()
