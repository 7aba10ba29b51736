"""The command line with a classifier, in processes of its own."""

import pickle
import subprocess
import sys

import pytest

from gslora_mm.utils import load_json
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.sequences import ROOT


def run(tool, *arguments, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    return make_class_inputs(tmp_path_factory.mktemp('images'))


def test_train_and_test(inputs, tmp_path):
    work_dir = tmp_path / 'run'
    cfg = tiny_class_sequence(inputs, work_dir, schedule__max_iters=4)
    cfg.dump(str(tmp_path / 'config.py'))
    done = run('train.py', tmp_path / 'config.py', '--amp')
    # Nothing of what the libraries have to say on import or in between.
    assert done.stderr == ''
    assert done.stdout.startswith('2 steps, 6 classes')
    report = load_json(work_dir / 'report.json')
    assert len(report['steps']) == 2

    # A stock checkpoint, with the splits of a step.
    run(
        'test.py',
        work_dir / 'step_02' / 'config.py',
        inputs / 'pretrained.pth',
        '--work-dir', tmp_path / 'test',
        '--metrics', tmp_path / 'metrics.json',
        '--out', tmp_path / 'predictions.pkl',
        '--show-dir', 'painted',
    )  # fmt: skip
    metrics = load_json(tmp_path / 'metrics.json')
    for split in ('forget', 'retain', 'old'):
        score = metrics[f'accuracy/{split}/top1']
        assert score == report['steps'][1][f'{split}_before']
    with open(tmp_path / 'predictions.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 30
    # Images of the six classes have the same five names.
    assert len(list((tmp_path / 'test' / 'painted').iterdir())) == 5


@pytest.mark.slow
def test_no_tool_writes_into_a_finished_step(inputs, tmp_path):
    work_dir = tmp_path / 'run'
    cfg = tiny_class_sequence(inputs, work_dir, schedule__max_iters=4)
    cfg.dump(str(tmp_path / 'config.py'))
    run('train.py', tmp_path / 'config.py')

    def files():
        return {
            path: path.read_bytes()
            for folder in ('pretrained', 'step_01', 'step_02')
            for path in sorted((work_dir / folder).rglob('*'))
            if path.is_file()
        }

    before, step = files(), work_dir / 'step_02'
    stock = inputs / 'pretrained.pth'
    for command in (
        ('test.py', step / 'config.py', step / 'merged.pth'),
        ('test.py', work_dir / 'pretrained/config.py', stock),
        ('audit.py', work_dir, '--attacks', 'redirection'),
        ('analysis_tools/report.py', work_dir),
        ('analysis_tools/compare_runs.py', f'a={work_dir}'),
        (
            'model_tools/merge_adapter.py', stock,
            work_dir / 'step_01/adapter.safetensors', tmp_path / 'merged.pth',
        ),
        (
            'model_tools/publish_model.py', step / 'merged.pth',
            tmp_path / 'published.pth',
        ),
        ('train.py', tmp_path / 'config.py', '--resume'),
    ):  # fmt: skip
        run(*command, cwd=tmp_path)
        assert files() == before, command[0]


def test_ordinary_training(inputs, tmp_path):
    cfg = tiny_class_sequence(inputs, tmp_path / 'run')
    sequence = ('forgetting', 'method', 'adapter', 'schedule')
    for key in (*sequence, 'param_scheduler'):  # which ends after 20 epochs
        cfg.pop(key)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    cfg.dump(str(tmp_path / 'config.py'))
    run('train.py', tmp_path / 'config.py')
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
    run(
        'test.py',
        tmp_path / 'config.py',
        tmp_path / 'run' / 'epoch_1.pth',
        '--metrics', tmp_path / 'metrics.json',
    )  # fmt: skip
    assert set(load_json(tmp_path / 'metrics.json')) == {
        'accuracy/top1', 'accuracy/top5',
    }  # fmt: skip
