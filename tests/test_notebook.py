"""The notebook runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib
import pytest

from gslora_mm.utils import load_json

NOTEBOOK = Path(__file__).parents[1] / 'docs/en/forgetting.ipynb'


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
