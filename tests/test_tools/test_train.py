"""The command line, in processes of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from gslora_mm.reports import comparable
from gslora_mm.utils import load_json
from tests.sequences import ROOT, make_inputs, tiny_sequence

LOSSES = ('loss', 'loss_retain', 'loss_forget', 'loss_forget_rest')


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp('inputs'))


def command(inputs, work_dir, *arguments, processes=1, **options):
    """The command that runs a tiny sequence with tools/train.py."""
    config = inputs / f'{work_dir.name}.py'
    tiny_sequence(inputs, work_dir, **options).dump(config)
    start = [sys.executable]
    if processes > 1:
        start += ['-m', 'torch.distributed.run', '--standalone']
        start += [f'--nproc-per-node={processes}']
        arguments += ('--launcher', 'pytorch')
    return [*start, str(ROOT / 'tools/train.py'), str(config), *arguments]


def run(*args, **kwargs):
    return subprocess.run(
        command(*args, **kwargs), capture_output=True, text=True, cwd=ROOT
    )


def losses_of(step_dir):
    """Logged values of every iteration of a step."""
    (path,) = step_dir.glob('*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return [
        [line[name] for name in LOSSES] for line in lines if 'loss' in line
    ]


def test_mistakes_are_told_in_one_line(inputs, tmp_path):
    done = run(inputs, tmp_path / 'run', forgetting__steps=[['tree']])
    assert done.returncode == 1
    assert done.stderr.startswith('ConfigError: forgetting.steps[0]')
    assert 'Traceback' not in done.stderr


def test_two_processes_train_as_one_with_the_joint_batch(inputs, tmp_path):
    options = dict(schedule__log_interval=1, log_processor=dict(window_size=1))
    one = run(inputs, tmp_path / 'one', schedule__batch_size=8, **options)
    assert one.returncode == 0, one.stderr
    two = run(
        inputs,
        tmp_path / 'two',
        processes=2,
        schedule__batch_size=4,
        **options,
    )
    assert two.returncode == 0, two.stderr
    for step in ('step_01', 'step_02'):
        expected = losses_of(tmp_path / 'one' / step)
        assert len(expected) == 4
        for now, then in zip(
            losses_of(tmp_path / 'two' / step), expected, strict=True
        ):
            assert now == pytest.approx(then, abs=1e-4)
    reports = [
        load_json(tmp_path / name / 'report.json') for name in ('one', 'two')
    ]
    scores = [
        [step['retain_score'] for step in report['steps']]
        for report in reports
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_merged_checkpoint_is_evaluated_by_test_py(inputs, tmp_path):
    work_dir = tmp_path / 'run'
    done = run(inputs, work_dir, forgetting__steps=[['one']])
    assert done.returncode == 0, done.stderr
    step = work_dir / 'step_01'
    arguments = [
        sys.executable,
        str(ROOT / 'tools/test.py'),
        str(step / 'config.py'),
        str(step / 'merged.pth'),
        '--work-dir',
        str(tmp_path / 'test'),
        '--metrics',
        str(tmp_path / 'metrics.json'),
        '--out',
        str(tmp_path / 'predictions.pkl'),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    expected = load_json(step / 'metrics.json')['metrics']
    found = load_json(tmp_path / 'metrics.json')
    assert {k.removeprefix('coco/'): v for k, v in found.items()} == expected
    assert (tmp_path / 'predictions.pkl').is_file()


def test_ctrl_c_ends_in_one_line(inputs, tmp_path):
    settings = dict(schedule__max_iters=1000, schedule__log_interval=1)
    process = subprocess.Popen(
        command(inputs, tmp_path / 'run', **settings),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell ignores it, and its children do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    line = next(line for line in process.stdout if 'iter ' in line)
    assert 'step 1/2' in line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode
    assert errors.count('\n') == 1, errors
    path = inputs / 'run.py'
    expected = rf'interrupted; to go on: python \S*train.py {path} --resume\n'
    assert re.fullmatch(expected, errors)


def test_a_config_of_a_training_has_its_sequence_elsewhere(inputs, tmp_path):
    training = tmp_path / 'training'
    training.mkdir()
    (training / 'last_checkpoint').touch()
    arguments = command(inputs, training, forgetting__steps=[['tree']])
    done = subprocess.run(
        arguments, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.startswith('work dir work_dirs/training, as /')
    assert os.listdir(training) == ['last_checkpoint']


@pytest.mark.slow
def test_kill_9_at_any_point_and_resume(inputs, tmp_path):
    whole = run(inputs, tmp_path / 'whole', schedule__max_iters=20)
    assert whole.returncode == 0, whole.stderr
    arguments = command(
        inputs, tmp_path / 'killed', '--resume', schedule__max_iters=20
    )
    # Each try gets a little further than the start-up of the one before.
    for patience in (8, 9, 10, 11, 12, 13, 14):
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(patience)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    reports = [
        comparable(load_json(tmp_path / name / 'report.json'))
        for name in ('whole', 'killed')
    ]
    assert reports[0] == reports[1]
    assert not list((tmp_path / 'killed').rglob('.*gslora-tmp'))
