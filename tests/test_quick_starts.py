"""Every command of the quick starts runs, on projects of a user's own."""

import re
import runpy
import shlex
import shutil
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from gslora_mm.toy_data import MINI_FACES_CLASSES, make_mini_faces
from gslora_mm.utils import load_json
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from tests.strangers import make_classifier, make_detector
from tests.test_docs import FENCE, ROOT, text_of

#: A few iterations show that a command runs.
SHORT = ['schedule.max_iters=2', 'schedule.batch_size=4']
CHECKPOINT = 'work_dirs/my_training/epoch_1.pth'


def commands_of(page, heading=''):
    """Words of each command below a heading of a page."""
    text = text_of(ROOT / page)
    if heading:
        text = text[text.index(f'\n{heading}\n') + 1 :]
        text = re.split(r'\n## ', text)[0]
    for language, code in FENCE.findall(text):
        if language == 'bash':
            for line in code.replace('\\\n', ' ').splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield words


@pytest.fixture
def call(monkeypatch):
    """Run the words of a command in this process."""

    def run(words):
        program, tool, *rest = words
        assert program == 'python'
        if tool == '-m':
            start, (name, *rest) = runpy.run_module, rest
        else:
            start, name = runpy.run_path, str(ROOT / tool)
        if tool == 'tools/forget.py':
            rest += ['--cfg-options', *SHORT]
        monkeypatch.setattr(sys, 'argv', [name, *rest])
        try:
            start(name, run_name='__main__')
        except SystemExit as left:
            assert not left.code, left.code

    return run


@pytest.fixture
def detector(tmp_path, monkeypatch):
    make_detector(tmp_path)
    shutil.copy(tmp_path / CHECKPOINT, tmp_path / 'epoch_50.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_from_a_detector_to_a_report(detector, call, capsys):
    for words in commands_of('docs/en/ten_minutes.md'):
        call(words)
    out = capsys.readouterr().out
    text = text_of(ROOT / 'docs/en/ten_minutes.md')
    # What the page says that it prints, but for the iterations.
    for line in re.search('```text\n(.*?)```', text, re.S)[1].splitlines():
        assert line.replace('300', '2') in out
    work_dir = detector / 'work_dirs/my_detector_forget'
    assert len(load_json(work_dir / 'report.json')['steps']) == 2
    assert 'rounding' in (work_dir / 'report.md').read_text()
    assert list(detector.glob('shipped*.pth'))


def test_the_first_command_for_a_detector(detector, call, capsys):
    (words,) = [
        words
        for words in commands_of('docs/en/ten_minutes.md')
        if '--dry-run' in words
    ]
    call(words)
    assert 'step 2: forget car, bus' in capsys.readouterr().out


def test_the_quick_start_for_a_classifier(tmp_path, monkeypatch, call, capsys):
    make_classifier(tmp_path)
    shutil.copy(tmp_path / CHECKPOINT, tmp_path / 'epoch_90.pth')
    monkeypatch.chdir(tmp_path)
    heading = '## Your own model in one command'
    found = [
        words
        for words in commands_of('README.md', heading)
        if 'my_vit.py' in words
    ]
    assert found
    # This one has four classes of eight images.
    own = dict(tench='red', **{'7': '1', '32': '4'})
    for words in found:
        call([*(own.get(word, word) for word in words), '--dry-run'])
    assert 'step 1: forget' in capsys.readouterr().out


def test_the_quick_start_for_faces(tmp_path, monkeypatch, call, capsys):
    monkeypatch.chdir(tmp_path)
    make_mini_faces(
        'data/mini_faces',
        num_train=2,
        num_val=2,
        num_pairs=1,
        num_tune=0,
        num_test=0,
    )
    (words,) = [
        words
        for words in commands_of('README.md', '## Classifiers and faces')
        if 'tools/forget.py' in words
    ]
    words[2] = str(ROOT / words[2])
    cfg = Config.fromfile(words[2])
    init_default_scope(cfg.default_scope)
    save_stock_checkpoint(
        MODELS.build(cfg.model), dict(classes=MINI_FACES_CLASSES), words[3]
    )
    call([*words, '--dry-run'])
    out = capsys.readouterr().out
    assert 'forgetting by GSLoRAPP' in out and 'step 2: forget' in out
