"""One command from a user's own project to a report, and the same again."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gslora_mm.reports import comparable
from gslora_mm.utils import load_json
from tests.strangers import make_classifier, make_detector

ROOT = Path(__file__).parents[2]
CHECKPOINT = 'work_dirs/my_training/epoch_1.pth'


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp('classifier'))


def run(folder, tool, *arguments):
    command = [sys.executable, str(ROOT / 'tools' / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.fixture
def in_process(classifier, monkeypatch):
    """Call tools/forget.py here; returns what it leaves with."""
    path = ROOT / 'tools/forget.py'
    spec = importlib.util.spec_from_file_location('forget_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(classifier)

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            tool.main()
        return left.value.code

    return call


@pytest.mark.parametrize('name', ['deformable_detr', 'ddq_detr'])
def test_a_detector_of_plain_mmdet(name, tmp_path):
    make_detector(tmp_path, name)
    done = run(
        tmp_path, 'forget.py', 'my_detector.py', CHECKPOINT,
        '--forget', 'person', '--forget', 'car', 'bus',
        '--cfg-options', 'schedule.max_iters=2',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'step 2: forget car, bus (12 of 12 forget' in done.stdout
    work_dir = tmp_path / 'work_dirs/my_detector_forget'
    assert done.stdout.endswith(
        'report: work_dirs/my_detector_forget/report.md\n'
    )
    report = load_json(work_dir / 'report.json')
    assert [step['forget'] for step in report['steps']] == [
        ['person'], ['car', 'bus']
    ]  # fmt: skip
    # The training that it starts from, and its folder, are as they were.
    folder = tmp_path / 'work_dirs/my_training'
    assert not {each.name for each in folder.iterdir()} & {
        'report.md', 'step_01', 'forget.py'
    }  # fmt: skip
    before = torch.load(tmp_path / CHECKPOINT, weights_only=False)
    after = torch.load(work_dir / 'step_02/merged.pth', weights_only=True)
    # mmdet saves a second time what DDQ-DETR's decoder borrows.
    assert after['state_dict'].keys() == {
        key
        for key in before['state_dict']
        if not key.startswith('decoder.aux_reg_branches.')
    }


def test_a_classifier_of_plain_mmpretrain(classifier, in_process, capsys):
    arguments = [
        'my_vit.py', CHECKPOINT, '--forget', 'RED', '--forget', 'gre',
        '--work-dir', 'run', '--cfg-options', 'schedule.max_iters=40',
        'schedule.batch_size=16', 'schedule.optim_wrapper.optimizer.lr=0.1',
    ]  # fmt: skip
    assert in_process(*arguments, '--dry-run') is None
    assert 'roughly' in capsys.readouterr().out.splitlines()[-1]
    (only,) = (classifier / 'run').iterdir()
    assert only.name == 'forget.py'
    done = run(classifier, 'forget.py', *arguments)
    assert done.returncode == 0, done.stderr
    report = load_json(classifier / 'run/report.json')
    scores = [step['forget_score'] for step in report['steps']]
    assert scores == [0.0, 0.0]
    assert [step['forget'] for step in report['steps']] == [['red'], ['green']]
    # Again, as the output says, but elsewhere.
    command = next(
        line.partition('python ')[2].split()
        for line in done.stdout.splitlines()
        if line.startswith('to run it again')
    )
    assert command == [str(ROOT / 'tools/train.py'), 'run/forget.py']
    again = run(classifier, 'train.py', command[1], '--work-dir', 'again')
    assert again.returncode == 0, again.stderr
    other = load_json(classifier / 'again/report.json')
    assert comparable(report) == comparable(other)
    # The same request goes on, another one is refused.
    shutil.rmtree(classifier / 'run/step_02')
    assert in_process(*arguments, '--resume') is None
    assert comparable(load_json(classifier / 'run/report.json')) == (
        comparable(report)
    )
    message = in_process(*arguments, '--forget', 'blue')
    assert message.startswith("ConfigError: --work-dir = 'run': it holds res")


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--forget', 'rad'], "--forget: unknown name 'rad'. Did you mean"),
        (['--forget', 'red', '--shots', '0'], 'step 1: --shots = 0: '),
        (['--forget', 'red', '--share', '7'], 'step 1: --share = 7.0: '),
        (
            ['--forget', 'red', '--share', '0.1', '--shots', '3'],
            '--share = 0.1: shots',
        ),
        (['--forget', 'red', '--method', 'gs'], "--method: unknown name 'gs'"),
    ],
)
def test_mistakes_are_told_by_flags(in_process, tmp_path, arguments, message):
    found = in_process(
        'my_vit.py', CHECKPOINT, *arguments, '--work-dir', tmp_path / 'run'
    )
    assert found.startswith(f'ConfigError: {message}')


def test_a_checkpoint_that_is_not_there(in_process, tmp_path):
    found = in_process(
        'my_vit.py', 'epoch_9.pth', '--forget', 'red', '--work-dir', tmp_path
    )
    assert found.startswith('ConfigError: CHECKPOINT = ')


def test_ctrl_c_says_how_to_go_on(in_process, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr('gslora_mm.sequence.ForgettingSequence.run', stop)
    arguments = ['my_vit.py', CHECKPOINT, '--forget', 'red', '--work-dir']
    found = in_process(*arguments, tmp_path / 'a run')
    expected = f"{' '.join(arguments)} '{tmp_path / 'a run'}' --resume"
    assert found.startswith('interrupted; to go on: python /')
    assert found.endswith(f'forget.py {expected}')
