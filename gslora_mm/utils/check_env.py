"""Tell in plain words what an installation lacks, and how to mend it.

    python -m gslora_mm.utils.check_env [--collect-env]

The exit code is 1 if something is broken.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys

from gslora_mm.version import __version__
from .env_checks import FAMILIES, TESTED, Environment, Finding, check


def list_versions(env: Environment) -> dict[str, str]:
    """Versions of Python, torch and the mm* packages; 'missing' of some.

    Args:
        env (Environment): What to look at.
    """
    versions = {'Python': platform.python_version()}
    for names in (('torch',), ('torchvision',), *FAMILIES.values()):
        found = [name for name in names if name in env.versions]
        for name in found or names[:1]:
            versions[name] = env.versions.get(name, 'missing')
    return versions


def describe_versions(env: Environment) -> str:
    """Make a table of what is installed.

    Args:
        env (Environment): What to look at.

    Returns:
        str: One line per package, with the tested version if another one is
        installed, and which build of mmcv's operators there is.
    """
    versions = list_versions(env)
    width = max(map(len, versions))
    lines = []
    for name, version in versions.items():
        tested = TESTED.get(name, version)
        # Builds for CPU and CUDA have a suffix such as +cpu.
        same = version.partition('+')[0] == tested.partition('+')[0]
        note = '' if same else f'tested: {tested}'
        lines.append(f'  {name:{width}}  {version:12} {note}'.rstrip())
    if env.has_fast_ops():
        lines.append("  mmcv's operators: all of those for CPUs (fast)")
    elif not env.import_error('mmcv._ext'):
        lines.append("  mmcv's operators: the ordinary build (full)")
    return '\n'.join(lines)


def report(env: Environment, findings: list[Finding]) -> str:
    """Write the findings down for a reader.

    Args:
        env (Environment): What was looked at.
        findings (list[Finding]): What is wrong.

    Returns:
        str: The versions, then each problem with the command that mends it.
    """
    lines = ['Installed:', describe_versions(env), '']
    for finding in findings:
        kind = 'BROKEN' if finding.broken else 'Note'
        lines.append(f'{kind}: {finding.problem}')
        if finding.command:
            lines.append(f'  Mend it with: {finding.command}')
        lines.append('')
    if broken := sum(finding.broken for finding in findings):
        lines.append(f'Broken: {broken}. Mend the first and check again.')
    else:
        lines.append('All that gslora_mm needs is there and works.')
    return '\n'.join(lines)


def collect_env(env: Environment | None = None) -> dict[str, str]:
    """Collect what a bug report should tell, as mmengine's function does.

    Args:
        env (Environment, optional): Defaults to that of this process.

    Returns:
        dict[str, str]: Names and values; only Python's and the platform's if
        mmengine does not work.
    """
    env = env or Environment()
    try:
        module = env.import_module('mmengine.utils.dl_utils')
        info = {key: str(value) for key, value in module.collect_env().items()}
    except Exception:
        info = {'sys.platform': sys.platform, 'Python': sys.version}
    for name in env.providers(*FAMILIES):
        info[name] = env.versions[name]
    info['gslora_mm'] = __version__
    info['CPU count'] = str(os.cpu_count())
    return info


def main(argv: list[str] | None = None, env: Environment | None = None) -> int:
    """Run the command line.

    Args:
        argv (list[str], optional): Arguments. Defaults to ``sys.argv``'s.
        env (Environment, optional): What to look at.

    Returns:
        int: Exit code, 1 if something is broken.
    """
    parser = argparse.ArgumentParser(
        prog='python -m gslora_mm.utils.check_env',
        description='Check the installation and say how to mend it.',
    )
    parser.add_argument(
        '--collect-env',
        action='store_true',
        help='print the environment for a bug report as well',
    )
    args = parser.parse_args(argv)
    env = env or Environment()
    findings = check(env)
    if args.collect_env:
        for name, value in collect_env(env).items():
            print(f'{name}: {value}')
        print()
    print(report(env, findings))
    return int(any(finding.broken for finding in findings))


if __name__ == '__main__':
    sys.exit(main())
