"""docs/en/adding_a_task.md, executed as it is written."""

import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, RUNNERS, TRANSFORMS
from torch import nn

from gslora_mm.lora import transformer_blocks
from gslora_mm.models import build_stock_model, load_stock_checkpoint
from gslora_mm.registry import TASKS
from gslora_mm.sequence import ForgettingSequence
from gslora_mm.tasks import task_named
from gslora_mm.utils import ConfigError
from gslora_mm.work_dir import WorkDir

PAGE = Path(__file__).parents[1] / 'docs/en/adding_a_task.md'
FILES = ('tones.py', 'pretrain_tones.py', 'forget_tones.py')
REGISTERED = {
    DATASETS: ('Tones',),
    TRANSFORMS: ('PackTone',),
    MODELS: ('TonePreprocessor', 'ToneTransformer'),
    TASKS: ('ToneTask',),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The page's files, and the model that its first command trains."""
    folder = tmp_path_factory.mktemp('tones')
    page = PAGE.read_text(encoding='utf-8')
    code = re.findall(r'^```python\n(.*?)^```$', page, re.M | re.S)
    for name, content in zip(FILES, code, strict=True):
        (folder / name).write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        cfg = Config.fromfile('pretrain_tones.py')
        cfg.work_dir = 'work_dirs/pretrain_tones'
        cfg.launcher = 'none'
        RUNNERS.build(cfg).train()
        yield folder
    sys.modules.pop('tones')
    for registry, names in REGISTERED.items():
        for name in names:
            registry.module_dict.pop(name)


def forget(work_dir, **options):
    cfg = Config.fromfile('forget_tones.py')
    cfg.work_dir = str(work_dir)
    cfg.merge_from_dict(options)
    return ForgettingSequence(cfg).run()


def test_notes_are_forgotten(folder):
    report = forget('work_dirs/forget_tones')
    assert (report['task'], report['method']) == ('tones', 'gs_lora')
    first, second = report['steps']
    for step in (first, second):
        assert step['forget_score'] < 0.2 < 0.7 < step['forget_before']
        assert step['retain_score'] > step['retain_before'] - 0.1
    assert len(first['groups']) == 2  # both blocks have been found
    text = (folder / 'work_dirs/forget_tones/report.md').read_text()
    assert 'Task: tones, 4 classes, score Acc (top1) in percent' in text
    assert '## Acc of each class' in text
    # The result is a stock checkpoint.
    model = build_stock_model(dict(type='ToneTransformer'))
    load_stock_checkpoint(model, 'work_dirs/forget_tones/step_02/merged.pth')


@pytest.mark.parametrize('method', ['DER', 'RandomLabels', 'GSLoRAPP'])
def test_other_methods_read_it_too(folder, method, tmp_path, monkeypatch):
    """By a teacher, by other labels, by prototypes."""
    # Its plots take longer than the step.
    monkeypatch.setattr('gslora_mm.reports.write_report', lambda *_, **__: {})
    forget(
        tmp_path,
        **{
            'method': dict(_delete_=True, type=f'gslora_mm.{method}'),
            'forgetting.steps': [['do']],
            'schedule.max_iters': 2,
        },
    )
    assert WorkDir(tmp_path).step(1).is_finished


def test_the_task_is_found_by_its_name(folder):
    task = task_named('tones')
    assert (task.score_name, task.unit) == ('Acc', 'sound')
    with pytest.raises(ConfigError, match="model.type = 'Linear': must be"):
        task().check_model(nn.Linear(1, 1))


def test_a_half_is_what_the_model_makes_of_it(folder):
    torch.manual_seed(0)
    model = build_stock_model(dict(type='ToneTransformer'))
    assert len(transformer_blocks(model)) == 2
    dataset = DATASETS.build(
        dict(type='Tones', num=8, seed=3, pipeline=[dict(type='PackTone')])
    )
    samples = [dataset[index] for index in range(8)]
    batch = {key: [each[key] for each in samples] for key in samples[0]}
    half = task_named('tones')().read(model, batch)
    data = model.data_preprocessor(copy.deepcopy(batch))
    expected = model(**data, mode='loss')['loss']
    torch.testing.assert_close(half.loss, expected)
    torch.testing.assert_close(half.logits, model(data['inputs']))
    torch.testing.assert_close(model.classify(half.features), half.logits)
    assert torch.equal(half.seen_by(model).logits, half.logits)
    other = half.relabelled(lambda labels: (labels + 1) % 4)
    assert other.labels.tolist() == [1, 2, 3, 0] * 2
