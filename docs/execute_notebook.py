"""Run a notebook, and keep what its cells print and draw in it.

    python docs/execute_notebook.py docs/en/forgetting.ipynb

It runs in the folder where this is called, as a script would, and needs
nothing of Jupyter. The notebook keeps a hash of the code that its outputs are
of; a test compares it with the code.
"""

import argparse
import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

#: Entry of a notebook's metadata.
KEY = 'outputs_of'


def code_of(notebook: dict) -> Iterator[tuple[dict, str]]:
    """All cells with code, and that code."""
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code':
            yield cell, ''.join(cell['source'])


def digest_of(notebook: dict) -> str:
    """Hash of all code of a notebook."""
    code = [code for _, code in code_of(notebook)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def execute(notebook: dict) -> None:
    """Run all cells, and put their outputs into them.

    Args:
        notebook (dict): Of nbformat 4, changed in place.
    """
    import matplotlib

    matplotlib.use('agg')
    import matplotlib.pyplot as plt

    pictures: list[str] = []
    plt.show = lambda: pictures.append(drawn(plt))
    space = {'__name__': '__main__'}
    for number, (cell, code) in enumerate(code_of(notebook), 1):
        printed = io.StringIO()
        pictures.clear()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f'cell {number}', 'exec'), space)
        lines = printed.getvalue().splitlines(keepends=True)
        cell['execution_count'] = number
        cell['outputs'] = [
            dict(
                output_type='display_data',
                metadata={},
                data={'image/png': picture, 'text/plain': ['<Figure>']},
            )
            for picture in pictures
        ]
        if lines:
            cell['outputs'].insert(
                0, dict(output_type='stream', name='stdout', text=lines)
            )
    notebook['metadata'][KEY] = digest_of(notebook)


def drawn(plt) -> str:
    """The current figure as a small PNG in base64; closes it."""
    from PIL import Image

    raw, small = io.BytesIO(), io.BytesIO()
    plt.gcf().savefig(raw, dpi=80, bbox_inches='tight')
    plt.close()
    Image.open(raw).convert('RGB').quantize(64).save(small, 'PNG')
    return base64.b64encode(small.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('notebook', type=Path, help='*.ipynb, written anew')
    path = parser.parse_args().notebook
    notebook = json.loads(path.read_text(encoding='utf-8'))
    execute(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    path.write_text(f'{text}\n', encoding='utf-8')


if __name__ == '__main__':
    main()
