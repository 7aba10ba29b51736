import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gslora_mm
from gslora_mm.utils.check_env import collect_env, describe_versions, main
from gslora_mm.utils.env_checks import TESTED, Environment


def environment(shim='unneeded', fast=False, **changes):
    def import_module(name):
        if name == 'mmcv._ext_build' and not fast:
            raise ModuleNotFoundError(name)
        return SimpleNamespace(
            cuda=SimpleNamespace(is_available=lambda: False)
        )

    versions = {k: v for k, v in {**TESTED, **changes}.items() if v}
    return Environment(versions, import_module, lambda: shim, (3, 11))


def test_a_good_environment(capsys):
    assert main([], environment()) == 0
    out = capsys.readouterr().out
    assert 'All that gslora_mm needs is there and works.' in out
    assert 'BROKEN' not in out and 'Mend' not in out


def test_a_note_is_no_failure(capsys):
    assert main([], environment(shim='active')) == 0
    out = capsys.readouterr().out
    assert 'Note: torchvision' in out
    assert 'All that gslora_mm needs' in out


def test_a_broken_environment(capsys):
    assert main([], environment(transformers='5.1.0', mmcv='2.2.0')) == 1
    lines = capsys.readouterr().out.splitlines()
    problems = [
        i for i, line in enumerate(lines) if line.startswith('BROKEN: ')
    ]
    assert len(problems) == 2
    for i in problems:
        assert lines[i + 1].startswith('  Mend it with: ')
    assert lines[-1] == 'Broken: 2. Mend the first and check again.'


def test_versions_that_differ_from_the_tested_ones():
    env = environment(
        torch='2.13.0+cpu',
        torchvision='0.29.0',
        **{
            'onedl-mmdetection': None,
            'mmdet': '3.3.0',
            'onedl-mmpretrain': None,
        },
    )
    rows = {
        line.split()[0]: line.split()[1:]
        for line in describe_versions(env).splitlines()
    }
    assert rows['torch'] == ['2.13.0+cpu']
    assert rows['torchvision'] == ['0.29.0', 'tested:', '0.28.0']
    assert rows['mmdet'] == ['3.3.0']
    assert rows['onedl-mmpretrain'] == ['missing', 'tested:', '1.3.6']
    assert 'onedl-mmdetection' not in rows


def test_the_two_builds_of_mmcv_are_told_apart():
    fast, full = (
        describe_versions(environment(fast=fast)) for fast in (True, False)
    )
    assert fast.endswith("mmcv's operators: all of those for CPUs (fast)")
    assert full.endswith("mmcv's operators: the ordinary build (full)")
    nothing = Environment({}, lambda name: __import__('no_such_module'))
    assert 'operators' not in describe_versions(nothing)


def test_collect_env(capsys):
    info = collect_env()
    assert {'Python', 'PyTorch', 'MMEngine'} <= set(info)
    assert info['gslora_mm'] == gslora_mm.__version__
    assert main(['--collect-env'], environment()) == 0
    out = capsys.readouterr().out
    assert 'onedl-mmcv: 2.3.6' in out and 'Installed:' in out


def test_collect_env_without_mmengine():
    def import_module(name):
        raise ImportError(name)

    info = collect_env(Environment({}, import_module))
    assert info['sys.platform'] == sys.platform
    assert 'PyTorch' not in info


def test_it_runs_where_nothing_is_installed(tmp_path):
    # -S: without site-packages there is neither torch nor mm*.
    root = Path(gslora_mm.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, '-S', '-m', 'gslora_mm.utils.check_env'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={'PYTHONPATH': str(root)},
    )
    assert result.returncode == 1, result.stderr
    assert result.stderr == ''
    for name in ('torch', 'numpy', 'mmengine', 'mmcv', 'mmdet'):
        assert f'BROKEN: {name} is missing' in result.stdout
