"""tools/model_tools/publish_model.py"""

import hashlib
from collections import OrderedDict

import pytest
import torch

from tests.test_tools.helpers import load_tool

main = load_tool('model_tools/publish_model').main


class Anything:
    """An object that a checkpoint has to run code for."""


@pytest.fixture
def checkpoint():
    shared = torch.randn(200)
    return dict(
        meta=dict(dataset_meta=dict(classes=('a', 'b'))),
        state_dict=OrderedDict(
            view=torch.randn(100_000)[:10], one=shared, two=shared
        ),
        optimizer=dict(state={0: torch.randn(1000)}),
        param_schedulers=[],
        message_hub={},
    )


def publish(checkpoint, folder, capsys, out='model.pth'):
    torch.save(checkpoint, folder / 'in.pth')
    main([str(folder / 'in.pth'), str(folder / out)])
    return folder / capsys.readouterr().out.strip()


@pytest.mark.parametrize('out', ['model.pth', 'model', 'sub/model.pth'])
def test_strips_and_names_by_hash(checkpoint, tmp_path, capsys, out):
    path = publish(checkpoint, tmp_path, capsys, out)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'model-{digest[:8]}.pth'
    published = torch.load(path, weights_only=True)
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta'] == checkpoint['meta']
    state = published['state_dict']
    assert list(state) == ['view', 'one', 'two']
    for key, value in checkpoint['state_dict'].items():
        assert torch.equal(state[key], value)
    assert state['one'].data_ptr() == state['two'].data_ptr()
    assert path.stat().st_size < 5000


def test_same_model_same_file(checkpoint, tmp_path, capsys):
    first = publish(checkpoint, tmp_path, capsys)
    checkpoint['optimizer'] = None
    assert publish(checkpoint, tmp_path, capsys) == first
    assert len(list(tmp_path.glob('model*'))) == 1


def test_refuses_an_adapter_beside_the_weights(checkpoint, tmp_path, capsys):
    checkpoint['state_dict']['ffn.lora_A'] = torch.zeros(1, 1)
    with pytest.raises(SystemExit, match='error: .*ffn.lora_A.*merged.pth'):
        publish(checkpoint, tmp_path, capsys)
    assert not list(tmp_path.glob('model*'))


def test_pickled_code_needs_the_flag(checkpoint, tmp_path, capsys):
    checkpoint['meta']['more'] = Anything()
    with pytest.raises(SystemExit, match='error: --allow-pickle = False'):
        publish(checkpoint, tmp_path, capsys)
    main([str(tmp_path / 'in.pth'), str(tmp_path / 'm.pth'), '--allow-pickle'])
    printed = capsys.readouterr()
    assert printed.out.strip().endswith('.pth')
    # Others need no flag for what was made.
    assert "['more']" in printed.err
    published = torch.load(tmp_path / printed.out.strip(), weights_only=True)
    del checkpoint['meta']['more']
    assert published['meta'] == checkpoint['meta']
    assert list(published['state_dict']) == list(checkpoint['state_dict'])
