import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

from gslora_mm.utils import torchvision_shim

SOURCE = Path(torchvision_shim.__file__)

MATCHING = 'from . import extension\n'
# As the real one: modules are imported before the missing operator is met.
MISMATCHED = """
from . import extension
import torch
torch.require('torchvision::nms')
"""
BROKEN = "raise ImportError('libpng.so is missing')\n"


class FakeTorch(ModuleType):
    """Knows of operators only what is declared with its Library."""

    def __init__(self):
        super().__init__('torch')
        self.operators = {}
        self.library = SimpleNamespace(Library=self.make_library)

    def make_library(self, namespace, kind):
        def define(schema):
            name, _, signature = schema.partition('(')
            self.operators[f'{namespace}::{name}'] = f'({signature}'

        return SimpleNamespace(define=define)

    def require(self, name):
        if name not in self.operators:
            raise RuntimeError(f'operator {name} does not exist')


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a fresh copy of the shim next to a made-up torchvision."""

    def run(torchvision, torch=None):
        if torchvision is not None:
            (tmp_path / 'torchvision').mkdir()
            (tmp_path / 'torchvision' / 'extension.py').touch()
            (tmp_path / 'torchvision' / '__init__.py').write_text(torchvision)
        spec = importlib.util.spec_from_file_location('shim_copy', SOURCE)
        shim = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shim)
        # None in sys.modules makes the import fail.
        hidden = {'torch': torch}
        if torchvision is None:
            hidden['torchvision'] = None
        with mock.patch.dict(sys.modules):
            for name in list(sys.modules):
                if name.partition('.')[0] in ('torch', 'torchvision'):
                    del sys.modules[name]
            sys.modules.update(hidden)
            monkeypatch.syspath_prepend(tmp_path)
            # That of the package itself would step in first.
            own = torchvision_shim._AtImport
            finders = [f for f in sys.meta_path if not isinstance(f, own)]
            monkeypatch.setattr(sys, 'meta_path', finders)
            states = [shim.ensure_torchvision() for _ in range(2)]
            attributes = vars(sys.modules.get('torchvision') or ModuleType(''))
        assert states[0] == states[1]
        return states[0], attributes

    return run


def test_a_matching_pair_never_notices(run):
    torch = FakeTorch()
    state, attributes = run(MATCHING, torch)
    assert state == 'unneeded'
    assert torch.operators == {}
    assert 'extension' in attributes


def test_a_mismatched_pair_gets_the_declarations(run):
    torch = FakeTorch()
    state, attributes = run(MISMATCHED, torch)
    assert state == 'active'
    signature = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    assert torch.operators == {
        'torchvision::nms': signature,
        'torchvision::qnms': signature,
    }
    # Submodules imported in the failed attempt are part of the package.
    assert 'extension' in attributes


def test_other_failures_are_left_alone(run):
    torch = FakeTorch()
    assert run(BROKEN, torch)[0] == 'failed'
    assert torch.operators == {}


def test_an_operator_that_is_not_covered(run):
    source = MISMATCHED + "torch.require('torchvision::roi_align')\n"
    assert run(source, FakeTorch())[0] == 'failed'


def test_without_torch_or_torchvision_nothing_is_raised(run):
    assert run(None, FakeTorch())[0] == 'failed'
    assert run(MISMATCHED, torch=None)[0] == 'failed'


def test_importing_the_package_imports_no_torchvision():
    code = (
        'import sys, gslora_mm.utils, gslora_mm.__main__\n'
        "print({'torch', 'torchvision', 'mmengine'} & set(sys.modules))\n"
        'import torchvision\n'
        'print(torchvision.__spec__.loader is torchvision.__loader__)\n'
        'print(torchvision.transforms.CenterCrop(2).size)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert result.stdout.splitlines() == ['set()', 'True', '(2, 2)'], (
        result.stderr
    )


def test_torchvision_works_here():
    import torchvision

    assert torchvision_shim.ensure_torchvision() in ('unneeded', 'active')
    assert torchvision.transforms.CenterCrop(2).size == (2, 2)


def test_the_real_torch_accepts_the_declarations(tmp_path):
    (tmp_path / 'torchvision').mkdir()
    (tmp_path / 'torchvision' / '__init__.py').write_text(
        'import torch\n'
        "torch.library.register_fake('torchvision::nms')(lambda *a: a[0])\n"
    )
    code = (
        f'import sys; sys.path[:0] = [{str(tmp_path)!r}, '
        f'{str(SOURCE.parent)!r}]\n'
        'from torchvision_shim import ensure_torchvision\n'
        'print(ensure_torchvision())\n'
        'import torch\n'
        'print(torch.ops.torchvision.nms.default._schema)\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert result.stdout.splitlines() == [
        'active',
        'torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) '
        '-> Tensor',
    ], result.stderr
