"""setup.py, requirements, Makefile and the launch scripts."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from gslora_mm.__main__ import main
from gslora_mm.utils import load_json
from gslora_mm.utils.env_checks import TESTED
from gslora_mm.version import __version__

ROOT = Path(__file__).parents[1]


def requirements(name):
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def executable(path, text):
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path):
    """A copy of what a package is built from."""
    copy = tmp_path / 'checkout'
    copy.mkdir()
    for name in ('gslora_mm', 'configs', 'tools', 'requirements'):
        ignore = shutil.ignore_patterns('__pycache__', '.mim')
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in (
        'setup.py',
        'pyproject.toml',
        'MANIFEST.in',
        'LICENSE',
        'model-index.yml',
    ):
        shutil.copy(ROOT / name, copy)
    return copy


def build(checkout, what):
    """Build as pip does, without isolation; return the archive's names."""
    code = (
        'from setuptools import build_meta\n'
        f'print("\\n" + build_meta.build_{what}("dist"))'
    )
    (checkout / 'dist').mkdir(exist_ok=True)
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return checkout / 'dist' / result.stdout.splitlines()[-1]


def test_a_wheel_carries_configs_and_tools(checkout):
    wheel = build(checkout, 'wheel')
    assert wheel.name == f'gslora_mm-{__version__}-py3-none-any.whl'
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f'gslora_mm-{__version__}.dist-info/METADATA')
    mim = {name for name in names if name.startswith('gslora_mm/.mim/')}
    expected = {
        f'gslora_mm/.mim/{path.relative_to(checkout)}'
        for folder in ('configs', 'tools')
        for path in (checkout / folder).rglob('*')
        if path.is_file()
    }
    assert mim == expected | {'gslora_mm/.mim/model-index.yml'}
    assert 'gslora_mm/utils/check_env.py' in names
    assert 'gslora_mm/reports/templates/report.md.j2' in names
    for name in ('deformable_attention', 'dropout'):
        assert f'gslora_mm/models/csrc/{name}.cpp' in names
    templates = (checkout / 'gslora_mm').rglob('*.j2')
    assert {str(path.relative_to(checkout)) for path in templates} <= {*names}
    assert not [name for name in names if name.startswith('tests/')]
    for requirement in requirements('runtime'):
        assert f'Requires-Dist: {requirement}\n'.encode() in metadata
    # The checkout itself is left as it was.
    assert not (checkout / 'gslora_mm' / '.mim').exists()


def test_a_development_install_links_to_the_checkout(checkout):
    mim = checkout / 'gslora_mm' / '.mim'
    # What an earlier version of the package may have left there.
    (mim / 'configs').mkdir(parents=True)
    (mim / 'model-index.yml').touch()
    for _ in range(2):
        build(checkout, 'editable')
        assert (mim / 'configs').is_symlink()
        assert (mim / 'configs').resolve() == checkout / 'configs'
        assert (mim / 'tools').resolve() == checkout / 'tools'
        assert (mim / 'model-index.yml').read_text().startswith('Import:')
    # A wheel built afterwards has files, not links, and keeps the links.
    with zipfile.ZipFile(build(checkout, 'wheel')) as archive:
        assert 'gslora_mm/.mim/tools/dist_train.sh' in archive.namelist()
    assert (mim / 'configs').is_symlink()


@pytest.fixture
def installed(checkout, tmp_path):
    """A new environment with the wheel; returns what calls it elsewhere."""
    wheel = build(checkout, 'wheel')
    shutil.move(wheel, tmp_path / wheel.name)
    shutil.rmtree(checkout)
    home = tmp_path / 'venv'
    venv = [sys.executable, '-m', 'venv', '--without-pip', str(home)]
    subprocess.run(venv, check=True)
    pip = [sys.executable, '-m', 'pip', '--python', str(home / 'bin/python')]
    pip += ['install', '-q', '--no-deps', '--no-index']
    subprocess.run([*pip, tmp_path / wheel.name], check=True)
    # The stack is that of these tests, without this package: a path in a
    # file *.pth does not bring what its own such files point to.
    (site,) = home.glob('lib/python*/site-packages')
    (site / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')
    folder = tmp_path / 'elsewhere'
    folder.mkdir()

    def call(program, *args):
        env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
        done = subprocess.run(
            [home / 'bin' / program, *args],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = 'import gslora_mm; print(gslora_mm.__file__)'
    assert call('python', '-c', code).startswith(str(site))
    return folder, call


@pytest.mark.slow
def test_a_wheel_runs_its_tools_and_the_demos(installed):
    folder, call = installed
    short = ['--cfg-options', 'schedule.max_iters=2']
    model = 'gslora_mm::mini/vit_mini-digits.py'
    call('gslora', 'make_mini_digits', '--max-scans', '8')
    call(
        'gslora', 'train', model,
        '--work-dir', 'work_dirs/mini_digits/pretrain',
        '--cfg-options', 'train_cfg.max_epochs=1',
    )  # fmt: skip
    demo = 'gslora_mm::mini/gs-lora_vit_mini-digits_3x2.py'
    call('gslora', 'train', demo, *short)
    name = 'work_dirs/gs-lora_vit_mini-digits_3x2'
    report = load_json(folder / name / 'report.json')
    assert len(report['steps']) == 3
    checkpoint = 'work_dirs/mini_digits/pretrain/pretrained.pth'
    own = folder / 'my_vit.py'
    own.write_text(f"_base_ = '{model}'\n")
    out = call(
        'python', '-m', 'gslora_mm', 'forget', 'my_vit.py', checkpoint,
        '--forget', 'zero', '--method', 'gs_lora', '--work-dir', 'run', *short,
    )  # fmt: skip
    assert out.endswith('report: run/report.md\n')
    written = (folder / 'run/forget.py').read_text()
    assert "'gslora_mm::_base_/methods/gs_lora.py'" in written
    assert (folder / 'run/step_01/merged.pth').is_file()


def test_every_tool_is_called_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['gslora'])
    main()
    listed = re.findall(r'^  (\w+)  ', capsys.readouterr().out, re.M)
    files = [path.stem for path in (ROOT / 'tools').rglob('*.py')]
    assert sorted(listed) == sorted(files) and 'forget' in listed
    monkeypatch.setattr(sys, 'argv', ['gslora', 'make_mini_digits', '-h'])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert 'make_mini_digits.py [-h]' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', ['gslora', 'forgte'])
    with pytest.raises(SystemExit, match="error: no tool 'forgte'\nusage:"):
        main()


def test_versions_are_the_same_everywhere():
    pins = dict(line.split('==') for line in requirements('tested'))
    assert TESTED.items() <= pins.items()
    for name in ('runtime', 'optional', 'tests'):
        names = {line.partition('>=')[0] for line in requirements(name)}
        assert names <= set(pins)
    assert {*requirements('docs')} <= {*requirements('tests')}
    for requirement in requirements('mminstall'):
        name, version = requirement.split('>=')
        assert pins[name] == version
    hooks = (ROOT / '.pre-commit-config.yaml').read_text()
    assert f'rev: v{pins["ruff"]}\n' in hooks


def make(*args):
    # Without the flags of the `make test` that may be running this.
    return subprocess.run(
        ['make', *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, 'MAKEFLAGS': '', 'MFLAGS': ''},
    )


def test_make_says_when_python_is_too_old(tmp_path):
    python = executable(
        tmp_path / 'python3', '[ "$1" = -V ] && echo Python 3.8.1 || exit 1'
    )
    result = make('check-python', f'PYTHON={python}')
    assert result.returncode != 0
    assert 'Python 3.10 or newer is needed' in result.stderr
    assert f'{python} is Python 3.8.1.' in result.stderr
    assert make('check-python', f'PYTHON={sys.executable}').returncode == 0


@pytest.mark.parametrize(
    'target, command',
    [
        ('test', '-m pytest -q -n 2 --dist loadfile\n'),
        ('test-all', '-m pytest -q -n 2 --dist loadfile -m ""\n'),
        ('demo', 'tools/train.py'),
        ('lint', 'ruff check'),
        ('docs', '-m mkdocs build'),
        ('fashion', 'gs-lora_vit_fashion-mnist_3x2.py'),
    ],
)
def test_every_target_installs_first(tmp_path, target, command):
    venv = tmp_path / 'venv'
    commands = make('-n', target, f'VENV={venv}').stdout
    steps = [
        ' -m venv ',
        'torch torchvision',
        'build_mmcv.py auto\n',
        '-e .',
        'check_env',
        f'touch {venv}/.installed',
        command,
    ]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places)


def test_nothing_is_installed_twice(tmp_path):
    venv = tmp_path / 'venv'
    venv.mkdir()
    (venv / '.installed').touch()
    assert 'pip' not in make('-n', 'test', f'VENV={venv}').stdout


def test_another_build_of_mmcv_may_be_asked_for(tmp_path):
    venv = tmp_path / 'venv'
    venv.mkdir()
    (venv / '.installed').touch()
    commands = make('-n', 'install', f'VENV={venv}', 'MMCV_BUILD=full').stdout
    assert 'build_mmcv.py full\n' in commands


@pytest.fixture
def run_script(tmp_path):
    """Run a launch script with programs that only print their arguments."""
    for program in ('python', 'srun'):
        executable(
            tmp_path / program,
            f'echo {program}; for a in "$@"; do echo "$a"; done',
        )

    def run(script, *args, **env):
        path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
        return subprocess.run(
            [ROOT / 'tools' / script, *args],
            capture_output=True,
            text=True,
            env={**os.environ, 'PATH': path, **env},
        )

    return run


@pytest.mark.parametrize(
    'script, args',
    [
        ('dist_train.sh', ['config.py']),
        ('dist_test.sh', ['a.py', 'b.pth']),
        ('slurm_train.sh', ['partition', 'job', 'config.py']),
    ],
)
def test_scripts_explain_themselves(run_script, script, args):
    result = run_script(script, *args)
    assert result.returncode == 2
    assert re.match(r'Usage: .*/tools/' + script, result.stderr)


def test_dist_train(run_script):
    result = run_script(
        'dist_train.sh',
        'my config.py',
        '4',
        '--resume',
        '--cfg-options',
        'a=[1, 2]',
        NNODES='2',
        PORT='1234',
    )
    assert result.stdout.splitlines() == [
        'python',
        '-m',
        'torch.distributed.run',
        '--nnodes=2',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=1234',
        '--nproc_per_node=4',
        f'{ROOT}/tools/train.py',
        'my config.py',
        '--launcher',
        'pytorch',
        '--resume',
        '--cfg-options',
        'a=[1, 2]',
    ]


def test_dist_test(run_script):
    result = run_script(
        'dist_test.sh', 'config.py', 'a.pth', '2', '--show-dir', 'out'
    )
    assert result.stdout.splitlines()[-8:] == [
        '--nproc_per_node=2',
        f'{ROOT}/tools/test.py',
        'config.py',
        'a.pth',
        '--launcher',
        'pytorch',
        '--show-dir',
        'out',
    ]


def test_slurm_train(run_script):
    result = run_script(
        'slurm_train.sh',
        'part',
        'job',
        'config.py',
        'out',
        '--amp',
        GPUS='4',
        SRUN_ARGS='--exclusive -t 10',
    )
    assert result.stdout.splitlines() == [
        'srun',
        '-p',
        'part',
        '--job-name=job',
        '--gres=gpu:4',
        '--ntasks=4',
        '--ntasks-per-node=4',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--exclusive',
        '-t',
        '10',
        'python',
        '-u',
        f'{ROOT}/tools/train.py',
        'config.py',
        '--work-dir=out',
        '--launcher=slurm',
        '--amp',
    ]
