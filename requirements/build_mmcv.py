"""Install mmcv with its compiled operators, in two minutes instead of twelve.

    python requirements/build_mmcv.py [auto | fast | full]

mmcv's operators for CPUs are 78 short C++ files, and each reads torch's
headers, which takes far longer than to compile what it says itself. The fast
build has setup.py of mmcv compile a few files that include the 78, unchanged
and with the same options, and makes a wheel of the same name and version with
the same operators. pip's cache keeps it.

full is the ordinary build. auto takes it where CUDA (or ROCm) is found and
where pip has kept the wheel of an earlier one, and the fast build elsewhere.
If the fast build fails, the ordinary one follows.

`make install` calls this when torch is installed. Only the standard library
is needed, and torch.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

NAME = 'onedl-mmcv'
TESTED = Path(__file__).resolve().with_name('tested.txt')
PIP = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
#: A module of mmcv that only the fast build has; check_env looks for it.
MARKER = '_ext_build'
#: By these, setup.py of mmcv is told to build for a device that is not there.
FORCED = {f'FORCE_{name}' for name in ('CUDA', 'MLU', 'MPS', 'MUSA', 'NPU')}
#: Loads the operators, not mmcv, which needs OpenCV and others; prints them.
LOAD = """
import sys, torch
from importlib.util import find_spec
sys.path = sys.argv[1:] or [*find_spec('mmcv').submodule_search_locations]
import _ext
print(*dir(_ext))
"""

_MACRO = re.compile(r'^#define (\w+)', re.M)
_NAMESPACE = re.compile(r'^using namespace', re.M)
_DEFINITION = re.compile(
    # A type, or a function with a body; not a declaration, which may be
    # repeated.
    r'^(?:template *<[^\n]*> *)?(?:'
    r'(?:struct|class|enum) (\w+)[^;{]*'
    r'|\w[\w:<>,&* ]*[ &*](\w+)\([^;{}]*\)\s*'
    r'){',
    re.M,
)


def find_names(source: str) -> set[str]:
    """Find the names that a C++ file defines at the start of a line.

    Args:
        source (str): The text of the file.

    Returns:
        set[str]: Functions and types, of which one unit may hold one each.
    """
    return {a or b for a, b in _DEFINITION.findall(source)}


def group_sources(sources: dict[str, str], jobs: int) -> list[list[str]]:
    """Group files so that no two of a group define the same name.

    Args:
        sources (dict[str, str]): Text by name of file.
        jobs (int): The least number of groups.

    Returns:
        list[list[str]]: The groups, about equally long. Files that open a
        namespace for all that follows are the last of their groups.
    """
    groups = [[] for _ in range(jobs)]
    names = {name: find_names(text) for name, text in sources.items()}

    def length(group):
        return sum(len(sources[name]) for name in group)

    for name in sorted(sources, key=lambda n: (-len(sources[n]), n)):
        for group in sorted(groups, key=length):
            if not any(names[name] & names[other] for other in group):
                group.append(name)
                break
        else:
            groups.append([name])
    for group in groups:
        group.sort(key=lambda n: (bool(_NAMESPACE.search(sources[n])), n))
    return [group for group in groups if group]


def write_unit(group: list[str], sources: dict[str, str]) -> str:
    """Write the C++ file that includes a group, without leaking macros."""
    lines = []
    for name in group:
        lines.append(f'#include "{name}"')
        lines += [f'#undef {macro}' for macro in _MACRO.findall(sources[name])]
    return '\n'.join(lines) + '\n'


def unite(csrc: Path, jobs: int) -> None:
    """Replace the files of operators by units that include them.

    mmcv's setup.py compiles all that ends in .cpp. The files stay where they
    are, under another ending.

    Args:
        csrc (Path): Folder mmcv/ops/csrc/pytorch.
        jobs (int): Units that are compiled at the same time.
    """
    sources = {}
    for path in sorted([*csrc.glob('*.cpp'), *csrc.glob('cpu/*.cpp')]):
        path = path.rename(path.with_suffix('.inc'))
        sources[path.relative_to(csrc).as_posix()] = path.read_text('utf-8')
    for i, group in enumerate(group_sources(sources, jobs)):
        (csrc / f'unit_{i}.cpp').write_text(write_unit(group, sources))


def say(line: str) -> None:
    """Print a line now, also where what is printed goes to a file."""
    print(line, flush=True)


def run_pip(*args: str | Path, **env: str) -> None:
    """Call pip, in this environment; raises CalledProcessError on failure."""
    command = [*PIP, '-q', *args]
    command += shlex.split(os.environ.get('PIP_ARGS', ''))
    subprocess.run(command, check=True, env={**os.environ, **env})


def ask_pip(*args: str) -> list[str]:
    """Lines that pip prints; none if it cannot tell (its cache is off)."""
    result = subprocess.run([*PIP, *args], capture_output=True, text=True)
    return [] if result.returncode else result.stdout.split('\n')[:-1]


def list_ops(*folders: str | Path) -> set[str]:
    """Load compiled operators.

    Args:
        *folders (str | Path): Where they are, if not in the installed mmcv.

    Returns:
        set[str]: Their names; empty if they are missing or do not fit torch.
    """
    result = subprocess.run(
        [sys.executable, '-c', LOAD, *map(str, folders)],
        capture_output=True,
        text=True,
    )
    names = set() if result.returncode else set(result.stdout.split())
    return {name for name in names if not name.startswith('__')}


def read_version() -> str:
    """Version of mmcv that the tests ran with, which is the one installed."""
    return re.search(f'^{NAME}==(.+)$', TESTED.read_text(), re.M)[1]


def find_cache() -> Path | None:
    """Folder that keeps wheels for this torch; None if pip keeps nothing."""
    cache = ask_pip('cache', 'dir')
    key = f'torch-{metadata.version("torch")}-{sysconfig.get_platform()}'
    return Path(cache[0], 'gslora_mm', key) if cache else None


def wheel_pattern() -> str:
    """Pattern of the name of a wheel for this version and this Python."""
    tag = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    return f'{NAME.replace("-", "_")}-{read_version()}-{tag}-{tag}*.whl'


def build_fast(folder: Path) -> Path:
    """Build a wheel from units.

    Args:
        folder (Path): An empty folder.

    Returns:
        Path: The wheel.

    Raises:
        RuntimeError: If it lacks an operator.
    """
    pin = f'{NAME}=={read_version()}'
    options = ['--no-deps', '--no-build-isolation']
    run_pip('download', '--no-binary', ':all:', *options, '-d', folder, pin)
    (archive,) = folder.glob('*.tar.gz')
    shutil.unpack_archive(archive, folder)
    package = folder / archive.name.removesuffix('.tar.gz') / 'mmcv'
    csrc = package / 'ops' / 'csrc' / 'pytorch'
    wanted = re.findall(r'm\.def\("(\w+)"', (csrc / 'pybind.cpp').read_text())
    jobs = os.environ.get('MAX_JOBS', '2')
    unite(csrc, int(jobs))
    (package / f'{MARKER}.py').write_text(
        '"""Operators for CPUs by the fast build of gslora_mm."""\n'
    )
    # Python's own options, which CFLAGS replaces, but no debugging symbols:
    # 31 MB of a wheel of 33 MB.
    flags = os.environ.get('CFLAGS') or sysconfig.get_config_var('CFLAGS')
    env = dict(CFLAGS=f'{flags or ""} -g0', MAX_JOBS=jobs)
    run_pip('wheel', *options, '-w', folder, package.parent, **env)
    (wheel,) = folder.glob('*.whl')
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            if name.startswith('mmcv/_ext.'):
                files.extract(name, folder)
    if missing := set(wanted) - list_ops(folder / 'mmcv'):
        raise RuntimeError(f'operators are missing: {sorted(missing)}')
    return wheel


def install_fast(*options: str) -> None:
    """Install the wheel that was kept, or build one and keep it."""
    cache = find_cache()
    for wheel in cache.glob(wheel_pattern()) if cache else ():
        run_pip('install', '-c', TESTED, *options, wheel)
        if list_ops():
            return
        options = ('--force-reinstall', '--no-deps')
    say('Building its operators for CPUs, about 2 minutes on 2 cores ...')
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_fast(Path(folder))
        run_pip('install', '-c', TESTED, *options, wheel)
        if cache:
            # A full disk is no reason for another build.
            with contextlib.suppress(OSError):
                cache.mkdir(parents=True, exist_ok=True)
                part = cache / f'{wheel.name}.{os.getpid()}'
                shutil.copy(wheel, part)
                part.replace(cache / wheel.name)


def install_full(*options: str) -> None:
    """Install by the ordinary build, or what pip has kept of one."""
    options = ('-c', TESTED, '--no-build-isolation', *options)
    run_pip('install', *options, f'{NAME}=={read_version()}')


def find_cuda() -> bool:
    """Whether operators for a GPU can be built or were asked for."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, ROCM_HOME

    return (
        torch.cuda.is_available()
        or bool(torch.version.cuda and CUDA_HOME)
        or bool(torch.version.hip and ROCM_HOME)
        or not FORCED.isdisjoint(os.environ)
    )


def main(kind: str = 'auto') -> None:
    """Install mmcv unless it is there; raises what pip's last try raises.

    Args:
        kind (str): Which build, see above.
    """
    if kind not in ('auto', 'fast', 'full'):
        sys.exit(f'MMCV_BUILD is {kind!r}, but has to be auto, fast or full.')
    try:
        files = metadata.files(NAME) or []
    except metadata.PackageNotFoundError:
        files = []
    fast = any(path.name == f'{MARKER}.py' for path in files)
    if list_ops() and not (kind == 'full' and fast):
        return
    again = ['--force-reinstall', '--no-deps'] if files else []
    if kind == 'auto':
        pattern = wheel_pattern()
        kept = ask_pip('cache', 'list', '--format=abspath', pattern[:-4])
        kind = 'fast'
        if find_cuda():
            kind = 'full'
        elif any(Path(path).match(pattern) for path in kept):
            install_full(*again)
            again = ['--force-reinstall', '--no-deps']
            if list_ops():
                return
    if kind == 'fast':
        try:
            install_fast(*again)
            return
        except Exception as error:
            say(f'The fast build failed: {error}')
    say('Ordinary build, 12 minutes on 2 cores, unless pip has kept one ...')
    install_full(*again)
    if not list_ops():
        # pip had kept a wheel that was built without torch.
        install_full('--no-cache-dir', '--force-reinstall', '--no-deps')


if __name__ == '__main__':
    main(*sys.argv[1:])
