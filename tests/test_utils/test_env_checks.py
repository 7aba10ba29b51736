from types import SimpleNamespace

import pytest

from gslora_mm.utils.env_checks import (
    PIP,
    TESTED,
    Environment,
    check,
)

GOOD = TESTED | {
    'numpy': '2.2.6',
    'matplotlib': '3.11.2',
    'pycocotools': '2.0.11',
    'safetensors': '0.8.0',
    'scikit-learn': '1.9.1',
    'jinja2': '3.1.6',
    'filelock': '4.3.1',
    'opencv-python': '4.12.0.88',
}


def environment(
    add=None, remove=(), failing=None, torchvision='unneeded', python=(3, 11)
):
    """The tested stack, but for what the arguments say.

    `failing` maps a module to its error, by default an ImportError; whatever
    is removed cannot be imported either.
    """
    versions = {k: v for k, v in GOOD.items() if k not in remove}
    failing = {
        'mmcv._ext_build': ModuleNotFoundError('an ordinary build'),
        **{name: ModuleNotFoundError(f'No {name}') for name in remove},
        **(failing or {}),
    }

    def import_module(name):
        if name in failing:
            raise failing[name]
        return SimpleNamespace()

    return Environment(
        versions | (add or {}), import_module, lambda: torchvision, python
    )


def only(env):
    (finding,) = check(env)
    return finding


def test_nothing_to_complain_about():
    assert check(environment()) == []


def test_this_environment_works():
    assert [finding for finding in check() if finding.broken] == []


def test_an_old_python():
    finding = only(environment(python=(3, 9)))
    assert 'Python 3.9 is too old' in finding.problem
    assert finding.command == 'make install PYTHON=python3.11'


def test_torch_missing_or_broken():
    finding = only(environment(remove=['torch']))
    assert finding.problem.startswith('torch is missing')
    assert finding.command == (
        f'{PIP} uninstall -y torchvision && '
        f'{PIP} install torch==2.13.0 torchvision==0.28.0'
    )
    error = OSError('libc10.so: cannot open')
    finding = only(environment(failing={'torch': error}))
    assert 'torch is broken (OSError: libc10.so' in finding.problem
    assert 'uninstall -y torch torchvision && ' in finding.command


def test_torchvision_missing():
    finding = only(environment(remove=['torchvision']))
    assert finding.problem.startswith('torchvision is missing')
    assert finding.command.endswith('torchvision==0.28.0')


def test_torchvision_of_another_torch():
    finding = only(environment(torchvision='active'))
    assert not finding.broken and not finding.command
    assert 'built for another torch than the installed 2.13.0' in (
        finding.problem
    )
    finding = only(
        environment(
            torchvision='failed',
            failing={'torchvision': RuntimeError('operator x does not exist')},
        )
    )
    assert finding.broken
    assert 'RuntimeError: operator x does not exist' in finding.problem
    assert 'torch==2.13.0 torchvision==0.28.0' in finding.command


@pytest.mark.parametrize(
    'original, fork, pin',
    [
        ('mmengine', 'onedl-mmengine', 'onedl-mmengine==0.10.12'),
        ('mmcv', 'onedl-mmcv', 'onedl-mmcv==2.3.6'),
        ('mmcv-lite', 'onedl-mmcv', 'onedl-mmcv==2.3.6'),
        ('mmdet', 'onedl-mmdetection', 'onedl-mmdetection==3.5.1'),
        ('mmpretrain', 'onedl-mmpretrain', 'onedl-mmpretrain==1.3.6'),
    ],
)
def test_both_families(original, fork, pin):
    finding = only(environment(add={original: '1.0'}))
    assert f'{fork} and {original}. They write the same' in finding.problem
    assert f'{PIP} uninstall -y {fork} {original} && ' in finding.command
    assert f'install --no-build-isolation {pin}' in finding.command


def test_both_families_throughout_are_one_finding():
    originals = ['mmengine', 'mmcv', 'mmdet', 'mmpretrain']
    finding = only(environment(add=dict.fromkeys(originals, '1.0')))
    for name in originals:
        assert f' and {name}' in finding.problem
        assert f' {name} ' in finding.command.partition('&&')[0]


def test_the_other_family_alone_is_fine():
    forks = [name for name in TESTED if name.startswith('onedl')]
    originals = {
        'mmengine': '0.10.7',
        'mmcv': '2.1.0',
        'mmdet': '3.3.0',
        'mmpretrain': '1.2.0',
    }
    assert check(environment(add=originals, remove=forks)) == []


def test_a_family_is_replaced_as_a_whole():
    forks = [name for name in TESTED if name.startswith('onedl')]
    originals = {
        'mmengine': '0.10.7',
        'mmcv': '2.2.0',
        'mmdet': '3.3.0',
        'mmpretrain': '1.2.0',
    }
    error = AssertionError('MMCV==2.2.0 is used but incompatible.\nMore')
    finding = only(
        environment(add=originals, remove=forks, failing={'mmdet': error})
    )
    assert finding.problem == (
        'mmdet 3.3.0 is installed, but `import mmdet` fails '
        '(AssertionError: MMCV==2.2.0 is used but incompatible.).'
    )
    uninstall, *_, install = finding.command.split(' && ')
    assert uninstall.endswith('-y mmengine mmcv mmdet mmpretrain')
    for fork in forks:
        assert f' {fork}=={TESTED[fork]}' in install


def test_mmcv_without_its_ops():
    error = ModuleNotFoundError("No module named 'mmcv._ext'")
    finding = only(environment(failing={'mmcv._ext': error}))
    assert finding.problem.startswith('mmcv lacks its compiled ops')
    assert finding.command == (
        f'{PIP} uninstall -y onedl-mmcv && '
        f'{PIP} install setuptools wheel ninja psutil && MAX_JOBS=2 '
        f'{PIP} install --no-build-isolation onedl-mmcv==2.3.6 '
        '--no-cache-dir'
    )


def test_mm_packages_missing():
    env = environment(
        remove=['onedl-mmcv'],
        failing={
            name: ImportError()
            for name in ('mmcv', 'mmdet', 'mmpretrain', 'mmcv._ext')
        },
    )
    # Those that import it are not blamed.
    assert only(env).problem == 'mmcv is missing.'
    names = [name for name in TESTED if name.startswith('onedl')]
    modules = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')
    env = environment(
        remove=names, failing={name: ImportError() for name in modules}
    )
    assert [finding.problem for finding in check(env)] == [
        f'{module} is missing.' for module in modules
    ]


@pytest.mark.parametrize('version', ['5.0.0', '5', '12.1.0.dev0'])
def test_transformers_too_new(version):
    finding = only(
        environment(
            add={'transformers': version},
            failing={'mmpretrain': ImportError('apply_chunking_to_forward')},
        )
    )
    assert f'transformers {version} is installed' in finding.problem
    assert finding.command == f"{PIP} install 'transformers<5'"


def test_transformers_old_enough():
    assert check(environment(add={'transformers': '4.57.1'})) == []


@pytest.mark.parametrize(
    'name', ['numpy', 'pycocotools', 'safetensors', 'matplotlib']
)
def test_packages_missing(name):
    module = 'pycocotools.mask' if name == 'pycocotools' else name
    finding = only(
        environment(remove=[name], failing={module: ModuleNotFoundError(name)})
    )
    assert finding.broken
    assert finding.problem == f'{name} is missing.'
    assert finding.command == f'{PIP} install {name}'


def test_packages_built_for_another_numpy():
    error = ValueError('numpy.dtype size changed')
    finding = only(environment(failing={'pycocotools.mask': error}))
    assert 'ValueError: numpy.dtype size changed' in finding.problem
    assert finding.command == (
        f'{PIP} install --force-reinstall --no-deps pycocotools==2.0.11'
    )


def test_a_broken_numpy_is_the_only_thing_blamed():
    modules = (
        'numpy',
        'matplotlib',
        'cv2',
        'mmengine',
        'mmcv',
        'mmdet',
        'mmpretrain',
    )
    finding = only(
        environment(
            failing={name: ImportError('numpy') for name in modules},
            torchvision='failed',
        )
    )
    assert finding.problem.startswith('numpy 2.2.6 cannot be imported')


def test_opencv():
    error = ImportError('libGL.so.1: cannot open shared object file')
    failing = {name: error for name in ('cv2', 'mmcv', 'mmdet', 'mmpretrain')}
    finding = only(environment(failing=failing))
    assert 'libGL.so.1' in finding.problem
    assert finding.command == (
        f'{PIP} uninstall -y opencv-python && '
        f'{PIP} install opencv-python-headless'
    )
    finding = only(environment(remove=['opencv-python'], failing=failing))
    assert finding.problem.startswith('OpenCV is missing')
    assert finding.command == f'{PIP} install opencv-python-headless'


@pytest.mark.parametrize(
    ('package', 'module'),
    [
        ('scikit-learn', 'sklearn'),
        ('jinja2', 'jinja2'),
        ('filelock', 'filelock'),
    ],
)
def test_what_reports_and_runs_need(package, module):
    missing = {module: ModuleNotFoundError(f'No {module}')}
    finding = only(environment(remove=[package], failing=missing))
    assert finding.broken and finding.problem == f'{package} is missing.'
    assert finding.command == f'{PIP} install {package}'


@pytest.mark.parametrize('gpu', [True, False])
def test_operators_for_cpus_beside_a_gpu(gpu):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: gpu))
    env = Environment(GOOD, {'torch': torch}.get, lambda: 'unneeded', (3, 11))
    findings = check(env)
    assert [finding.broken for finding in findings] == [False] * gpu
    if gpu:
        assert 'operators for CPUs alone' in findings[0].problem
        assert findings[0].command == 'make install MMCV_BUILD=full'
