"""The notebook runs from its first cell to its last."""

import importlib.util
import json
from pathlib import Path

import matplotlib
import pytest

from gslora_mm.utils import load_json

DOCS = Path(__file__).parents[1] / 'docs'
NOTEBOOK = DOCS / 'en/forgetting.ipynb'


def cells():
    """Code of the notebook, with a training that takes seconds."""
    shorter = {
        'MAX_EPOCHS = 22': 'MAX_EPOCHS = 1',
        "'schedule.max_iters': 300": "'schedule.max_iters': 2",
        "('data/mini_digits')": "('data/mini_digits', train_copies=1, "
        'val_copies=1, tune_copies=0, test_copies=0)',
    }
    for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']:
        if cell['cell_type'] == 'code':
            code = ''.join(cell['source'])
            for old in [old for old in shorter if old in code]:
                code = code.replace(old, shorter.pop(old))
            yield code
    assert not shorter


@pytest.fixture(scope='module')
def executor():
    path = DOCS / 'execute_notebook.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outputs_are_those_of_the_code(executor):
    """After a change of a cell, run docs/execute_notebook.py."""
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    assert notebook['metadata'][executor.KEY] == executor.digest_of(notebook)
    done = [cell for cell, _ in executor.code_of(notebook)]
    assert [cell['execution_count'] for cell in done] == [
        number for number, _ in enumerate(done, 1)
    ]
    outputs = [each for cell in done for each in cell['outputs']]
    printed = ''.join(line for o in outputs for line in o.get('text', ()))
    assert 'step 3: forget four, five' in printed
    assert 'a zero is called' in printed
    assert any('image/png' in o.get('data', {}) for o in outputs)
    assert '/tmp/' not in printed and '/home/' not in printed


def test_cells_are_executed(executor, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    drawing = 'import matplotlib.pyplot as p\np.plot([1])\np.show()'
    cells = [
        dict(cell_type='markdown', source=['# A'], metadata={}),
        dict(cell_type='code', source=['a = 3\n', 'print(a)'], outputs=[]),
        dict(cell_type='code', source=[f'print(a + 1)\n{drawing}']),
    ]
    notebook = dict(cells=cells, metadata={})
    executor.execute(notebook)
    one, two = cells[1:]
    assert one['outputs'] == [
        dict(output_type='stream', name='stdout', text=['3\n'])
    ]
    assert two['outputs'][0]['text'] == ['4\n']
    assert two['outputs'][1]['data']['image/png'].startswith('iVBOR')
    assert [one['execution_count'], two['execution_count']] == [1, 2]
    assert notebook['metadata'][executor.KEY] == executor.digest_of(notebook)
    cells[1]['source'] = ['a = 4']
    assert notebook['metadata'][executor.KEY] != executor.digest_of(notebook)


def test_cells_are_python():
    for code in cells():
        compile(code, NOTEBOOK.name, 'exec')


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use('agg')
    space = {'__name__': '__main__'}
    for code in cells():
        exec(compile(code, NOTEBOOK.name, 'exec'), space)
    out = capsys.readouterr().out
    report = load_json('work_dirs/notebook/report.json')
    assert report == space['report'] and len(report['steps']) == 3
    assert 'step 3: forget four, five' in out
    assert 'a seven is called' in out
