import hashlib
from pathlib import Path

import pytest
import torch

from gslora_mm.reports import build_report
from gslora_mm.reports.evidence import read_evidence
from gslora_mm.utils import load_json, save_json
from gslora_mm.version import __version__
from gslora_mm.work_dir import WorkDir
from tests.audit_files import make_audit, write_audit
from tests.work_dirs import make_work_dir


@pytest.fixture
def folder(tmp_path):
    return make_work_dir(tmp_path / 'run')


def evidence(folder):
    return read_evidence(WorkDir(folder), build_report(folder), 'AP')


def found(folder):
    """By their first word, what still lies there."""
    return {
        each.what.split()[0]: each.found
        for each in evidence(folder)['remains']
    }


def test_what_has_to_be_deleted_is_looked_for(folder):
    assert not any(found(folder).values())
    for name in (
        'pretrained.pth',
        'epoch_12.pth',
        'step_01/merged.pth',
        'step_02/merged.pth',
        'step_01/adapter.safetensors',
        'step_02/adapter.safetensors',
        'step_02/method.safetensors',
        'step_02/resume.pth',
        'report/pictures.png',
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    data = folder.parent / 'photos'
    data.mkdir()
    record = load_json(folder / 'sequence.json')
    inner = dict(data_root=str(data), pipeline=[dict(type='Load')])
    loader = dict(dataset=dict(datasets=[dict(dataset=inner)]))
    record['identity'] = dict(config=dict(train_dataloader=loader))
    save_json(record, folder / 'sequence.json')
    assert found(folder) == {
        'pre-trained': ['pretrained.pth'],
        'other': ['epoch_12.pth'],
        'adapter.safetensors': [
            'step_01/adapter.safetensors',
            'step_02/adapter.safetensors',
        ],
        'method.safetensors': ['step_02/method.safetensors'],
        'resume.pth': ['step_02/resume.pth'],
        'merged.pth': ['step_01/merged.pth'],  # the last is to be shipped
        'pictures': ['report/pictures.png'],
        'training': [str(data)],
    }
    (folder / 'step_01' / 'adapter.safetensors').unlink()
    assert found(folder)['adapter.safetensors'] == [
        'step_02/adapter.safetensors'
    ]


def test_a_download_is_looked_for_in_the_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    record = load_json(folder / 'sequence.json')
    record['pretrained_path'] = 'https://nowhere.test/detr-0123abcd.pth'
    save_json(record, folder / 'sequence.json')
    assert found(folder)['pre-trained'] == []
    cached = tmp_path / 'checkpoints' / 'detr-0123abcd.pth'
    cached.parent.mkdir()
    cached.touch()
    assert found(folder)['pre-trained'] == [str(cached)]
    # What else is in the cache is none of its business.
    assert 'other' not in found(folder)


def test_the_model_to_ship_is_hashed(folder):
    assert evidence(folder)['shipped'] == {'step_02/merged.pth': None}
    merged = folder / 'step_02' / 'merged.pth'
    merged.write_bytes(b'weights')
    digest = hashlib.sha256(b'weights').hexdigest()
    assert evidence(folder)['shipped'] == {'step_02/merged.pth': digest}


def test_whether_the_file_that_was_attacked_lies_there(folder):
    digest = hashlib.sha256(b'weights').hexdigest()
    write_audit(
        folder,
        [make_audit(1, ['dog']), make_audit(2, ['car'], sha256=digest)],
    )

    def states():
        return [audit['file'] for audit in evidence(folder)['audits']]

    assert states() == ['gone', 'gone']
    for step in ('step_01', 'step_02'):
        (folder / step / 'merged.pth').write_bytes(b'weights')
    assert states() == ['another', 'same']


def test_a_damaged_audit_costs_only_the_audit(folder):
    (folder / 'audit').mkdir()
    (folder / 'audit' / 'audit.json').write_text('{"step": 1')
    result = evidence(folder)
    assert result['audits'] == []
    assert 'audit.json is not valid JSON' in result['audit_problem']


def test_a_run_says_when_its_steps_were_started(folder):
    assert evidence(folder)['started'] == {}
    for name in ('20260102_030405', '20260203_040506'):
        (folder / 'step_02' / name).mkdir()
    assert evidence(folder)['started'] == {2: '2026-02-03 04:05'}


def test_settings_are_those_of_the_run(folder):
    assert evidence(folder)['settings'] == {}
    record = load_json(folder / 'sequence.json')
    config = dict(
        method=dict(type='gslora_mm.GSLoRA', beta=[0.1, 0.2], hooks={}),
        forgetting=dict(steps=[['dog']], shots=None),
        model=dict(type='DETR'),
        adapter=None,
    )
    expected = {
        'forgetting.shots': 'null',
        'method.type': 'gslora_mm.GSLoRA',
        'method.beta': '[0.1, 0.2]',
        'method.hooks': '{}',
        'adapter': 'null',
    }
    for place in (dict(identity=dict(config=config)), dict(config=config)):
        save_json(record | place, folder / 'sequence.json')
        assert evidence(folder)['settings'] == expected


def test_versions_and_commands(tmp_path):
    folder = make_work_dir(tmp_path / 'a run')
    result = evidence(folder)
    assert result['versions']['gslora_mm'] == __version__
    assert result['versions']['torch'] == torch.__version__
    commands = result['commands']
    assert commands['attacks on the last step'] == (
        f"python tools/audit.py '{folder}'"
    )
    root = Path(__file__).parents[2]
    for command in commands.values():
        tool = command.split()[1]
        # What attacks is not in this part of the house.
        if tool.startswith('tools/') and tool != 'tools/audit.py':
            assert (root / tool).is_file()
