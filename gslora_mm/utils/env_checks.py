"""What can be wrong with an installation, one function for each layer of it.

Nothing of torch or mm* is imported at the top: this has to run where they
are missing or broken.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from .torchvision_shim import ensure_torchvision

#: The versions that the tests ran with, see ``requirements/tested.txt``.
TESTED = {
    'torch': '2.13.0',
    'torchvision': '0.28.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmpretrain': '1.3.6',
}
#: Import name -> distributions that provide it: the tested fork, then others.
FAMILIES = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-full', 'mmcv-lite'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}
#: Packages below and beside these, with the module that shows whether they
#: work.
PACKAGES = {
    'numpy': 'numpy',
    'matplotlib': 'matplotlib',
    'pycocotools': 'pycocotools.mask',
    'safetensors': 'safetensors',
    'scikit-learn': 'sklearn',
    'jinja2': 'jinja2',
    'filelock': 'filelock',
}
PIP = f'{shlex.quote(sys.executable)} -m pip'


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        problem (str): What is wrong and what comes of it.
        command (str): The shell command that mends it; empty if nothing has
            to be done.
        broken (bool): False if all that the tests cover works all the same.
    """

    problem: str
    command: str
    broken: bool = True


def _installed_versions() -> dict[str, str]:
    return {
        re.sub(r'[-_.]+', '-', name).lower(): distribution.version
        for distribution in metadata.distributions()
        # Remains of a broken installation may lack a name.
        if (name := distribution.metadata['Name'])
    }


@dataclass
class Environment:
    """What the checks look at; tests put their own in place.

    Attributes:
        versions (Mapping[str, str]): Installed distributions by normalised
            name.
        import_module (Callable): Imports a module or raises.
        torchvision (Callable): Reports the state of torchvision, see
            :func:`ensure_torchvision`.
        python (tuple[int, int]): Version of the interpreter.
    """

    versions: Mapping[str, str] = field(default_factory=_installed_versions)
    import_module: Callable[[str], Any] = importlib.import_module
    torchvision: Callable[[], str] = ensure_torchvision
    python: tuple[int, int] = sys.version_info[:2]

    def import_error(self, module: str) -> str | None:
        """Import a module.

        Returns:
            str | None: None if that works, else the error in one line.
        """
        try:
            self.import_module(module)
        except Exception as error:
            lines = str(error).strip().splitlines() or ['']
            return f'{type(error).__name__}: {lines[0]}'
        return None

    def has_fast_ops(self) -> bool:
        """Whether ``requirements/build_mmcv.py`` built mmcv's operators."""
        return self.import_error('mmcv._ext_build') is None

    def providers(self, *modules: str) -> list[str]:
        """List the installed distributions that provide mm* modules."""
        return [
            name
            for module in modules
            for name in FAMILIES[module]
            if name in self.versions
        ]


def check_python(env: Environment) -> Iterator[Finding]:
    """The tested stack needs Python 3.10."""
    if env.python < (3, 10):
        yield Finding(
            f'Python {".".join(map(str, env.python))} is too old; 3.10 or '
            'newer is needed.',
            'make install PYTHON=python3.11',
        )


def check_packages(env: Environment) -> Iterator[Finding]:
    """The packages below and beside the mm* ones can be imported."""
    no_numpy = env.import_error('numpy')
    for package, module in PACKAGES.items():
        error = env.import_error(module)
        version = env.versions.get(package)
        if error and not version:
            yield Finding(f'{package} is missing.', f'{PIP} install {package}')
        elif error and (package == 'numpy' or not no_numpy):
            yield Finding(
                f'{package} {version} cannot be imported ({error}).',
                f'{PIP} install --force-reinstall --no-deps '
                f'{package}=={version}',
            )


def check_torch(env: Environment) -> Iterator[Finding]:
    """torch works; torchvision fits it, or the shim makes up for it."""
    versions = env.versions
    both = ('torch', 'torchvision')
    pins = ' '.join(f'{name}=={TESTED[name]}' for name in both)
    present = ' '.join(name for name in both if name in versions)
    uninstall = f'{PIP} uninstall -y {present} && ' if present else ''
    reinstall = f'{uninstall}{PIP} install {pins}'
    mismatch = (
        'built for another torch than the installed '
        f'{versions.get("torch", "one")}'
    )
    if error := env.import_error('torch'):
        state = 'is broken' if 'torch' in versions else 'is missing'
        yield Finding(f'torch {state} ({error}).', reinstall)
    elif env.import_error('numpy'):
        return  # reported already
    elif 'torchvision' not in versions:
        yield Finding(
            'torchvision is missing; mmpretrain needs it.',
            f'{PIP} install {pins}',
        )
    elif (state := env.torchvision()) == 'active':
        yield Finding(
            f'torchvision {versions["torchvision"]} was {mismatch}. gslora_mm '
            'declares the operators that it then lacks, so that `import '
            'torchvision` works; nothing here calls them, so this may stay as '
            'it is.',
            command='',
            broken=False,
        )
    elif state == 'failed':
        yield Finding(
            f'torchvision {versions["torchvision"]} cannot be imported '
            f'({env.import_error("torchvision")}). Probably it was '
            f'{mismatch}.',
            reinstall,
        )


def check_cv2(env: Environment) -> Iterator[Finding]:
    """OpenCV, which mmcv imports, works."""
    error = env.import_error('cv2')
    if not error or env.import_error('numpy'):
        return
    install = f'{PIP} install opencv-python-headless'
    if names := [name for name in env.versions if name.startswith('opencv-')]:
        yield Finding(
            f'OpenCV cannot be imported ({error}). If it misses a graphics '
            'library of the system, the headless package, which needs none, '
            'does as well.',
            f'{PIP} uninstall -y {" ".join(names)} && {install}',
        )
    else:
        yield Finding('OpenCV is missing; mmcv needs it.', install)


def check_families(env: Environment) -> Iterator[Finding]:
    """Only one distribution provides each of the mm* packages."""
    providers = {module: env.providers(module) for module in FAMILIES}
    doubles = {name: found for name, found in providers.items() if found[1:]}
    if doubles:
        which = '; '.join(' and '.join(names) for names in doubles.values())
        yield Finding(
            f'Two families of mm* packages are installed: {which}. They '
            'write the same files, so what is imported is a mix of both.',
            _reinstall(env, *doubles),
        )


def check_mm_packages(env: Environment) -> Iterator[Finding]:
    """The mm* packages can be imported, and mmcv has its compiled ops."""
    transformers = env.versions.get('transformers', '0')
    too_new = int(transformers.partition('.')[0]) >= 5
    if too_new:
        yield Finding(
            f'transformers {transformers} is installed, and mmpretrain fails '
            'with version 5 and newer.',
            f"{PIP} install 'transformers<5'",
        )
    # What is broken underneath is reported by another check.
    blocked = any(map(env.import_error, ('numpy', 'torch', 'cv2')))
    for module in FAMILIES:
        if module == 'mmpretrain' and too_new:
            continue
        names = env.providers(module)
        error = env.import_error(module)
        problem = ''
        if len(names) > 1:
            blocked = True
        elif error and not names:
            problem = f'{module} is missing.'
        elif error and not blocked:
            problem = (
                f'{names[0]} {env.versions[names[0]]} is installed, but '
                f'`import {module}` fails ({error}).'
            )
        elif module == 'mmcv' and not blocked:
            if no_ops := env.import_error('mmcv._ext'):
                problem = (
                    'mmcv lacks its compiled ops, so no detector works '
                    f'(mmcv._ext: {no_ops}). It was built in isolation from '
                    'torch, or for another torch.'
                )
        if problem:
            yield Finding(problem, _reinstall(env, module))
        # The later modules import the first two.
        blocked = blocked or bool(error and module in ('mmengine', 'mmcv'))


def check_gpu_ops(env: Environment) -> Iterator[Finding]:
    """mmcv has operators for the GPU, if there is one."""
    if env.has_fast_ops() and not env.import_error('torch'):
        if env.import_module('torch').cuda.is_available():
            yield Finding(
                'mmcv has its operators for CPUs alone (the fast build), but '
                'there is a GPU.',
                'make install MMCV_BUILD=full',
                broken=False,
            )


#: In the order in which to mend what they find.
CHECKS = (
    check_python,
    check_packages,
    check_torch,
    check_cv2,
    check_families,
    check_mm_packages,
    check_gpu_ops,
)


def check(env: Environment | None = None) -> list[Finding]:
    """Run all checks.

    Args:
        env (Environment, optional): What to look at. Defaults to the
            environment of this process.

    Returns:
        list[Finding]: What is wrong, in the order in which to mend it.
    """
    env = env or Environment()
    return [finding for check_one in CHECKS for finding in check_one(env)]


def _reinstall(env: Environment, *modules: str) -> str:
    """Command that puts the tested distributions of mm* modules in place.

    What another family provides is replaced as well: half of one does not
    work with half of the other.
    """
    forks = {
        module: fork
        for module, (fork, *others) in FAMILIES.items()
        if module in modules or any(name in env.versions for name in others)
    }
    commands = []
    if present := env.providers(*forks):
        commands.append(f'{PIP} uninstall -y {" ".join(present)}')
    pins = ' '.join(f'{fork}=={TESTED[fork]}' for fork in forks.values())
    install = f'{PIP} install --no-build-isolation {pins}'
    if 'mmcv' in forks:
        commands.append(f'{PIP} install setuptools wheel ninja psutil')
        # pip's cache may hold a wheel that was built without the ops.
        install = f'MAX_JOBS=2 {install} --no-cache-dir'
    return ' && '.join([*commands, install])
