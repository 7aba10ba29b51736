"""requirements/build_mmcv.py: which files go together, which build is made."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import mmcv._ext
import pytest
import torch

SCRIPT = Path(__file__).parents[1] / 'requirements' / 'build_mmcv.py'
TAG = 'cp{}{}'.format(*sys.version_info)
WHEEL = f'onedl_mmcv-2.3.6-{TAG}-{TAG}-linux.whl'

#: What stands in one way or another in mmcv's sources.
SOURCES = {
    'align.cpp': """#include "shared.hpp"
#define max(a, b) ((a) > (b) ? (a) : (b))
template <typename T>
struct Corner { T value; };
template <typename T>
static void add(T* to, const T& value) { *to += value; }
int other(int x);
int align(int x) { Corner<int> c{x}; add(&c.value, max(x, 2));
  return c.value; }
""",
    'cpu/rotated.cpp': """#include "shared.hpp"
template <class T> struct Corner { T value, angle; };
template <typename T>
static void add(T *to,
                const T &value) {
  *to += 2 * value;
}
int rotated(int x) { Corner<int> c{x, 1}; add(&c.value, c.angle);
  if (x > 0) {
    c.angle = 0;
  }
  return c.value; }
""",
    'other.cpp': """#include "shared.hpp"
using namespace std;
#include <algorithm>
int other(int x) { return max(x, 5); }
""",
    'pybind.cpp': """#include "shared.hpp"
#include <cstdio>
int align(int x);
int rotated(int x);
int other(int x);
int main() { printf("%d %d %d", align(1), rotated(1), other(1)); }
""",
}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location('build_mmcv', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def csrc(tmp_path):
    folder = tmp_path / 'csrc'
    for name, text in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / 'shared.hpp').write_text('#pragma once\n')
    return folder


def test_names_are_those_that_a_file_defines(script):
    names = {name: script.find_names(text) for name, text in SOURCES.items()}
    assert names == {
        'align.cpp': {'Corner', 'add', 'align'},
        'cpu/rotated.cpp': {'Corner', 'add', 'rotated'},
        'other.cpp': {'other'},
        'pybind.cpp': {'main'},
    }


@pytest.mark.parametrize('jobs', [1, 2, 9])
def test_no_group_defines_a_name_twice(script, jobs):
    groups = script.group_sources(SOURCES, jobs)
    assert sorted(sum(groups, [])) == sorted(SOURCES)
    assert len(groups) == {1: 2, 2: 2, 9: 4}[jobs]
    for group in groups:
        assert not {'align.cpp', 'cpu/rotated.cpp'} <= {*group}
        assert 'other.cpp' not in group[:-1]


@pytest.mark.skipif(not shutil.which('c++'), reason='no C++ compiler')
def test_units_do_what_their_files_do(script, csrc):
    def run(*sources):
        program = csrc / 'program'
        command = ['c++', '-I', csrc, *sources, '-o', program]
        subprocess.run(command, check=True)
        return subprocess.run([program], capture_output=True).stdout

    apart = run(*csrc.glob('*.cpp'), *csrc.glob('cpu/*.cpp'))
    script.unite(csrc, jobs=1)
    units = [*csrc.glob('*.cpp')]
    assert len(units) == 2 and not [*csrc.glob('cpu/*.cpp')]
    assert run(*units) == apart == b'3 3 5'


def test_installed_operators_are_listed_without_mmcv(script, tmp_path):
    names = {name for name in dir(mmcv._ext) if not name.startswith('__')}
    assert script.list_ops() == names
    assert len(names) > 100
    (tmp_path / '_ext.py').write_text('raise ImportError("undefined symbol")')
    assert script.list_ops(tmp_path) == set()


class Pip:
    """Stands for pip and for what it has installed.

    ``ops`` are the operators that each source of mmcv brings.
    """

    def __init__(self, script, monkeypatch, tmp_path, cuda=False):
        self.calls, self.installed, self.files = [], set(), None
        self.kept, self.full = [], {'nms'}
        self.fails, self.broken = False, 0
        self.cache = tmp_path / 'cache'
        monkeypatch.setattr(script, 'run_pip', self.run)
        monkeypatch.setattr(script, 'ask_pip', self.ask)
        monkeypatch.setattr(script, 'build_fast', self.build)
        monkeypatch.setattr(script, 'find_cuda', lambda: cuda)
        monkeypatch.setattr(script, 'list_ops', lambda: self.installed)
        monkeypatch.setattr(script, 'wheel_pattern', lambda: WHEEL)
        monkeypatch.setattr(script.metadata, 'files', self.list_files)

    def run(self, *args):
        what = Path(args[-1]).name
        self.calls.append((what, '--force-reinstall' in args))
        self.files = [Path('mmcv/version.py')]
        if what == WHEEL:
            self.files.append(Path('mmcv/_ext_build.py'))
            self.installed = set() if self.broken else {'nms'}
            self.broken = 0
        elif '--no-cache-dir' in args:
            self.installed = {'nms'}
        else:
            self.installed = self.full

    def ask(self, *args):
        return [str(self.cache)] if args[1] == 'dir' else self.kept

    def build(self, folder):
        self.calls.append('build')
        if self.fails:
            raise RuntimeError('no compiler')
        (folder / WHEEL).write_bytes(b'wheel')
        return folder / WHEEL

    def list_files(self, name):
        if self.files is None:
            raise PackageNotFoundError(name)
        return self.files


PIN = 'onedl-mmcv==2.3.6'

#: Writes what operators return, forward and backward, to the file argv[1].
OPERATORS = """
import sys, torch
from mmcv import _ext, ops
torch.manual_seed(0)
names = [n for n in dir(_ext) if not n.startswith('__')]
docs = [getattr(_ext, name).__doc__ for name in names]
x = torch.rand(2, 8, 20, 20, requires_grad=True)
boxes, scores = torch.rand(99, 4) * 9, torch.rand(99)
boxes[:, 2:] += boxes[:, :2]
turned = torch.cat([boxes[:, :2], boxes[:, 2:] / 2 + 1, scores[:, None]], 1)
rois = torch.cat([torch.zeros(99, 1), boxes], 1)
turned_rois = torch.cat([torch.zeros(99, 1), turned], 1)
curves = torch.cat([torch.zeros(99, 1), torch.rand(99, 16) * 19], 1)
corners = torch.tensor([0., 0, 4, 0, 5, 5, 0, 4]) + boxes[:, :2].repeat(1, 4)
weight, offset = torch.randn(8, 8, 3, 3), torch.randn(2, 18, 20, 20)
points = torch.rand(200, 4) * 4
points = points[None, :, :3], torch.tensor([[[2., 2, 1, 2, 2, 2, .3]]])
out = [
    *ops.nms(boxes, scores, 0.5),
    *ops.soft_nms(boxes, scores, 0.5),
    *ops.nms_rotated(turned, scores, 0.3),
    *ops.nms_quadri(corners, scores, 0.3),
    ops.box_iou_rotated(turned, turned),
    ops.box_iou_quadri(corners, corners),
    ops.bbox_overlaps(boxes, boxes),
    ops.roi_align(x, rois, (7, 7), 1.0, 2, 'avg', True),
    ops.roi_align(x, rois, (7, 7), 1.0, 2, 'max', True),
    ops.roi_align_rotated(x, turned_rois, (7, 7), 1.0, 2, True, False),
    ops.bezier_align(x, curves, (7, 7), 1.0, 2, True),
    ops.rotated_feature_align(
        x, turned[:1].repeat(2 * 400, 1).reshape(2, 20, 20, 5), 1.0, 1),
    ops.deform_conv2d(x, offset, weight, 1, 1, 1, 1, 1),
    ops.modulated_deform_conv2d(
        x, offset, torch.rand(2, 9, 20, 20), weight, None, 1, 1, 1, 1, 1),
    ops.PSAMask('collect', (5, 5))(torch.rand(2, 25, 8, 8)),
    ops.points_in_boxes_cpu(*points),
    *ops.Voxelization([.5] * 3, [0, 0, 0, 4, 4, 4], 9, 99)(
        torch.rand(200, 4) * 4),
]
grads = [torch.autograd.grad(o.sum(), x)[0] for o in out if o.requires_grad]
torch.save((names, docs, [o.detach() for o in out], grads), sys.argv[1])
"""


@pytest.mark.slow
def test_the_fast_build_equals_the_installed_one(
    script, tmp_path, monkeypatch
):
    def run_pip(*args, run=script.run_pip, **env):
        try:
            run(*args, **env)
        except subprocess.CalledProcessError:
            if args[0] == 'download':
                pytest.skip('there is no package index')
            raise

    monkeypatch.setattr(script, 'run_pip', run_pip)
    bin_folder = str(Path(sys.executable).parent)  # where ninja is
    monkeypatch.setenv('PATH', bin_folder, prepend=os.pathsep)
    wheel = script.build_fast(tmp_path)
    assert wheel.stat().st_size < 4e6  # without debugging symbols
    shutil.unpack_archive(wheel, tmp_path / 'fast', 'zip')
    results = []
    for path in (None, tmp_path / 'fast'):
        code = f'import sys; sys.path[:0] = {[str(path)] * bool(path)}\n'
        out = tmp_path / f'{len(results)}.pt'
        command = [sys.executable, '-c', code + OPERATORS, out]
        subprocess.run(command, check=True)
        results.append(torch.load(out))
    (*names, outs, grads), (*fast_names, fast_outs, fast_grads) = results
    assert fast_names == names
    assert len(outs) == len(fast_outs) > 20 and len(grads) == 7
    for one, other in zip(outs + grads, fast_outs + fast_grads, strict=True):
        assert torch.equal(one, other)
    assert (tmp_path / 'fast' / 'mmcv' / f'{script.MARKER}.py').is_file()


@pytest.fixture
def pip(script, monkeypatch, tmp_path):
    return Pip(script, monkeypatch, tmp_path)


def test_a_wheel_is_built_once_and_kept(script, pip):
    script.main()
    assert pip.calls == ['build', (WHEEL, False)]
    (kept,) = pip.cache.rglob('*.*hl')
    assert kept.name == WHEEL and kept.parent.name.startswith('torch-')
    assert [path for path in pip.cache.rglob('*') if path.is_file()] == [kept]
    script.main()  # all is there
    assert len(pip.calls) == 2
    pip.installed, pip.files = set(), None  # a new environment
    script.main()
    assert pip.calls[2:] == [(WHEEL, False)]


def test_a_kept_wheel_that_does_not_load_is_built_anew(script, pip):
    script.main()
    pip.installed, pip.files = set(), None
    pip.broken = 1
    script.main()
    assert pip.calls[2:] == [(WHEEL, False), 'build', (WHEEL, True)]


def test_a_full_disk_is_no_failure(script, pip):
    pip.cache.write_text('no folder can be made here')
    script.main()
    assert pip.calls == ['build', (WHEEL, False)]


def test_nothing_is_kept_where_pip_keeps_nothing(script, pip):
    pip.ask = lambda *args: []
    script.ask_pip = pip.ask
    script.main()
    assert pip.calls == ['build', (WHEEL, False)]
    assert not pip.cache.exists()


def test_the_ordinary_build_follows_a_failure(script, pip, capsys):
    pip.fails = True
    script.main()
    assert pip.calls == ['build', (PIN, False)]
    assert 'The fast build failed: no compiler' in capsys.readouterr().out
    assert not pip.cache.exists()


def test_what_pip_has_kept_of_an_ordinary_build_is_used(script, pip):
    pip.kept = [f'/cache/wheels/6f/{WHEEL}']
    script.main()
    assert pip.calls == [(PIN, False)]


def test_what_pip_has_kept_may_lack_the_operators(script, pip):
    pip.kept, pip.full = [f'/cache/wheels/6f/{WHEEL}'], set()
    script.main()
    assert pip.calls == [(PIN, False), 'build', (WHEEL, True)]
    # The same where the ordinary build is asked for.
    pip.calls, pip.installed = [], set()
    script.main('full')
    assert pip.calls == [(PIN, True), (PIN, True)]


def test_full_replaces_fast(script, pip):
    script.main('fast')
    script.main('full')
    assert pip.calls == ['build', (WHEEL, False), (PIN, True)]
    script.main('fast')  # has all that the fast build has
    assert len(pip.calls) == 3


def test_cuda_is_what_the_ordinary_build_is_for(
    script, monkeypatch, tmp_path
):
    pip = Pip(script, monkeypatch, tmp_path, cuda=True)
    script.main()
    assert pip.calls == [(PIN, False)]


@pytest.mark.parametrize(
    'built, home, env, expected',
    [
        (dict(cuda=None, gpu=False), None, {}, False),
        (dict(cuda='13.0', gpu=False), None, {}, False),
        (dict(cuda='13.0', gpu=False), '/usr/local/cuda', {}, True),
        (dict(cuda=None, gpu=False), '/usr/local/cuda', {}, False),
        (dict(cuda='13.0', gpu=True), None, {}, True),
        (dict(cuda=None, gpu=False), None, {'FORCE_CUDA': '1'}, True),
        (dict(cuda=None, gpu=False), None, {'FORCE_COLOR': '1'}, False),
    ],
)
def test_where_cuda_is_found(script, monkeypatch, built, home, env, expected):
    from torch.utils import cpp_extension

    monkeypatch.setattr(torch.version, 'cuda', built['cuda'])
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: built['gpu'])
    monkeypatch.setattr(cpp_extension, 'CUDA_HOME', home)
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert script.find_cuda() is expected


def test_another_word_is_an_error(script):
    with pytest.raises(SystemExit, match="MMCV_BUILD is 'quick'"):
        script.main('quick')


def test_the_version_is_the_tested_one(script):
    pattern = script.wheel_pattern()
    assert script.read_version() == re.search('-(.+?)-', pattern)[1] == '2.3.6'
