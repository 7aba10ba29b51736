"""What all tools have in common: a quick answer, and one line at Ctrl-C."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gslora_mm.audits import known_attacks
from gslora_mm.models.converters import SOURCES
from tests.test_tools.helpers import TOOLS, load_tool

NAMES = sorted(
    str(path.relative_to(TOOLS).with_suffix(''))
    for path in TOOLS.rglob('*.py')
)
#: Command lines that can be read; of what is not here, [].
ARGUMENTS = {
    'audit': ['run'],
    'forget': ['my_vit.py', 'my_vit.pth', '--forget', 'red'],
    'test': ['step/config.py', 'merged.pth'],
    'train': ['my_vit.py'],
    'analysis_tools/benchmark_methods': ['mini_coco'],
    'analysis_tools/compare_runs': ['plain=work_dirs/s0'],
    'analysis_tools/report': ['run'],
    'analysis_tools/run_suite': ['rank'],
    'model_tools/convert_checkpoint': ['in.pth', 'out.pth'],
    'model_tools/merge_adapter': ['model.pth', 'adapter', 'out.pth'],
    'model_tools/publish_model': ['in.pth', 'out.pth'],
}
GOES_ON = {
    'audit': 'the same command goes on with what is not finished',
    'forget': r'to go on: python \S+forget.py my_vit.py my_vit.pth --forget '
    'red --resume',
    'train': r'to go on: python \S+train.py my_vit.py --resume',
    'analysis_tools/benchmark_methods': 'the same command goes on',
    'analysis_tools/run_suite': 'the same command with --resume goes on',
}


#: The makers of data sets import nothing that takes its time.
IMPORTING = [name for name in NAMES if not name.startswith('dataset_tools')]


def call(name, *arguments):
    """Run a tool; what it prints, and which of the stack it imports."""
    path = str(TOOLS / f'{name}.py')
    code = (
        'import runpy, sys\n'
        f'sys.argv = {[path, *arguments]!r}\n'
        'try:\n'
        f'    runpy.run_path({path!r}, run_name="__main__")\n'
        'except SystemExit as end:\n'
        '    assert not end.code, end.code\n'
        "print('heavy:', {'torch', 'mmdet', 'mmcv'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('name', NAMES)
def test_help_waits_for_no_torch(name):
    printed = call(name, '--help')
    assert printed.startswith('usage: ')
    assert printed.endswith('heavy: set()\n')


def test_a_list_of_runs_waits_for_no_torch():
    printed = call('analysis_tools/run_suite', 'rank', '--list')
    assert printed.startswith("rank_2: {'adapter.rank': 2}\n")
    assert printed.endswith('heavy: set()\n')


@pytest.mark.parametrize('name', IMPORTING)
def test_ctrl_c_while_it_imports(name, tmp_path):
    path = str(TOOLS / f'{name}.py')
    process = subprocess.Popen(
        [sys.executable, path, *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell ignores it, and its children do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    maps = Path(f'/proc/{process.pid}/maps')
    while 'libtorch' not in maps.read_text():  # in the middle of it
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode
    how = GOES_ON.get(name, 'start it again')
    assert re.fullmatch(f'interrupted; {how}\n', errors), errors


def test_ctrl_c_while_a_data_set_is_made(tmp_path):
    path = str(TOOLS / 'dataset_tools/make_mini_coco.py')
    process = subprocess.Popen(
        [sys.executable, path, '--root', str(tmp_path / 'made')],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(tmp_path.rglob('*.png')):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode
    assert errors == 'interrupted; start it again\n'


def test_what_the_help_lists_is_what_there_is():
    assert set(load_tool('audit').ATTACKS) == set(known_attacks())
    assert load_tool('model_tools/convert_checkpoint').NAMES == tuple(SOURCES)


def test_a_mistake_is_told_before_anything_is_imported():
    path = str(TOOLS / 'train.py')
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', path, 'a.py', '--resum', '--x'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'unrecognized arguments: --x' in done.stderr
    assert not re.search(r'\btorch\b', done.stderr)
