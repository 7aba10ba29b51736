"""All tools by their names, wherever the package is installed.

    gslora forget CONFIG CHECKPOINT --forget person
    python -m gslora_mm forget CONFIG CHECKPOINT --forget person

A wheel has them in ``gslora_mm/.mim/tools``, for MIM, and a checkout in
``tools``. A config of this package is named by ``gslora_mm::mini/NAME.py``.
"""

import ast
import runpy
import sys
from pathlib import Path

from gslora_mm.utils.config_file import own_configs


def tools() -> dict[str, Path]:
    """Files of all tools by their names."""
    folder = own_configs().parent / 'tools'
    return {path.stem: path for path in sorted(folder.rglob('*.py'))}


def usage() -> str:
    """A line for each tool, the first of its docstring."""
    lines = ['usage: gslora TOOL ...; gslora TOOL -h says more', '']
    for name, path in tools().items():
        text = ast.get_docstring(ast.parse(path.read_text('utf-8'))) or ''
        lines.append(f'  {name:22} {text.partition(chr(10))[0]}')
    return '\n'.join(lines)


def main() -> None:
    """Run a tool as if its file had been called."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print(usage())
        return
    if name not in tools():
        raise SystemExit(f'error: no tool {name!r}\n{usage()}')
    path = str(tools()[name])
    sys.argv = [path, *sys.argv[2:]]
    runpy.run_path(path, run_name='__main__')


if __name__ == '__main__':
    main()
