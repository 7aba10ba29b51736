"""The operators in C++ that run on a CPU, and which of them are chosen.

The files in ``csrc`` need neither headers of torch nor an installation: they
are compiled in seconds when the first of them is used, for the processor at
hand, and kept in the user's cache folder.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gslora_mm.utils import ConfigError, SaveError, atomic_path

SOURCES = sorted((Path(__file__).parent / 'csrc').glob('*.cpp'))
FLAGS = '-O3 -march=native -std=c++17 -shared -fPIC -fopenmp'.split()
#: What describes a processor in Linux's /proc/cpuinfo.
_CPU_KEYS = ('flags', 'Features', 'model name', 'CPU part')


class NotCompiledError(Exception):
    """There is no compiler, or it does not do what it should."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled functions; compiles them if they are not there yet.

    The compiler is that of the environment variable ``CXX``, by default
    ``c++``.

    Raises:
        NotCompiledError: If it could not be done, with the reason.
    """
    compiler = shlex.split(os.environ.get('CXX') or 'c++')
    try:
        path = _folder() / f'operators-{_key(compiler)}.so'
        if not path.exists():
            # Several processes may do so at a time; each renames its own.
            with atomic_path(path) as temporary:
                subprocess.run(
                    [*compiler, *FLAGS, *SOURCES, '-o', temporary],
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        lines = [*error.stderr.splitlines(), str(error)]
        reason = next((line for line in lines if 'error' in line), lines[-1])
        raise NotCompiledError(reason) from error
    except (OSError, SaveError, subprocess.TimeoutExpired) as error:
        raise NotCompiledError(str(error)) from error


def _folder() -> Path:
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(cache).expanduser() / 'gslora_mm'


def _key(compiler: list[str]) -> str:
    """Tell the same sources for the same processor by one compiler."""
    version = subprocess.run(
        [*compiler, '--version'],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.encode()
    cpu = Path('/proc/cpuinfo')
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    facts = sorted({line for line in lines if line.startswith(_CPU_KEYS)})
    facts += [platform.platform(), platform.processor(), *compiler, *FLAGS]
    known = b''.join(source.read_bytes() for source in SOURCES)
    known += version + '\n'.join(facts).encode()
    return hashlib.sha256(known).hexdigest()[:16]


def chosen(variable: str, choices: Sequence[str]) -> str:
    """What an environment variable chooses.

    Args:
        variable (str): Its name.
        choices (Sequence[str]): ``'auto'``, the default, ``'compiled'``, and
            what needs no compiler.

    Raises:
        ConfigError: If it has another value, or asks for what cannot be
            compiled.
    """
    choice = os.environ.get(variable, choices[0])
    if choice not in choices:
        raise ConfigError(variable, choice, f'must be one of {choices}')
    if choice == 'compiled':
        try:
            library()
        except NotCompiledError as error:
            raise ConfigError(
                variable,
                choice,
                f'it could not be compiled ({error}); the environment '
                f'variable CXX names a C++ compiler, and {choices[2]!r} '
                'needs none',
            ) from error
    return choice
