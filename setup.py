"""Packaging of gslora_mm."""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What MIM and MMEngine look for in PACKAGE/.mim.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


def read_version() -> str:
    """Read the version without importing the package."""
    scope: dict = {}
    exec((ROOT / 'gslora_mm' / 'version.py').read_text(), scope)
    return scope['__version__']


def read_readme() -> str:
    """Read the project's page; a checkout without one installs as well."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


def read_requirements(name: str) -> list:
    """Read one of the requirement files, comments left out."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


class BuildPyWithMim(build_py):
    """Put configs and tools into the package as ``.mim``.

    A development install gets links to the checkout, so that edits count
    at once; a wheel gets copies, made in the build folder, so that building
    one does not disturb the links.
    """

    def run(self) -> None:
        super().run()
        base = ROOT if self.editable_mode else Path(self.build_lib).resolve()
        mim = base / 'gslora_mm' / '.mim'
        mim.mkdir(parents=True, exist_ok=True)
        for name in MIM_FILES:
            source, target = ROOT / name, mim / name
            if target.is_symlink() or target.is_file():
                target.unlink()
            elif target.is_dir():
                shutil.rmtree(target)
            if self.editable_mode:
                target.symlink_to(os.path.relpath(source, mim))
            elif source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(source, target, ignore=ignore)
            else:
                shutil.copyfile(source, target)


setup(
    name='gslora_mm',
    version=read_version(),
    description='Continual forgetting (GS-LoRA) for mmdet and mmpretrain',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    keywords='computer vision, machine unlearning, continual forgetting, lora',
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['gslora_mm', 'gslora_mm.*']),
    include_package_data=False,
    package_data={'': ['templates/*.j2', 'csrc/*.cpp']},
    entry_points={'console_scripts': ['gslora = gslora_mm.__main__:main']},
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require={
        name: read_requirements(name)
        for name in ('mminstall', 'optional', 'tests')
    },
    cmdclass={'build_py': BuildPyWithMim},
    zip_safe=False,
)
