"""tools/analysis_tools/benchmark_annotations.py: what it reads, and says."""

import json
import logging

import pytest

from gslora_mm.utils import coco_annotations
from tests.test_tools.helpers import load_tool

tool = load_tool('analysis_tools/benchmark_annotations')
SIZE = '--images 30 --boxes 90 --classes 6 --steps 2 --repeats 1'.split()


@pytest.fixture(autouse=True)
def log_as_before():
    yield
    logging.disable(logging.NOTSET)


def test_a_sequence_reads_each_file_once(tmp_path, monkeypatch):
    cfg = tool.make_sequence(tmp_path, tool.parse_args(SIZE), 6)
    names, load = [], json.load

    def counted(stream):
        names.append(stream.name.rpartition('/')[2])
        return load(stream)

    monkeypatch.setattr(coco_annotations.json, 'load', counted)
    tool.read_sequence(cfg)
    # The validation file as a data set, and as the truth of the evaluator.
    assert sorted(names) == ['train.json', 'val.json', 'val.json']


def test_figures_are_printed_and_written(tmp_path, capsys):
    path = tmp_path / 'figures.json'
    more = ['--detections', '5', '--out', str(path)]
    tool.main(tool.parse_args([*SIZE, *more]))
    rows = [r for r in capsys.readouterr().out.splitlines() if r[:2] == '| ']
    kinds = [row.split('|')[2].strip() for row in rows]
    assert kinds[:4] == ['what', 'mmdet', 'checks', 'sequence']
    assert [kind.partition(',')[0] for kind in kinds[4:]] == [
        'evaluation by mmdet',
        'evaluation',
        'evaluation',
    ]
    found = json.loads(path.read_text())
    assert found['settings']['boxes'] == 90
    for figures in found['results']['6'].values():
        assert figures['median'] > 0 and figures['peak_mb'] > 0
