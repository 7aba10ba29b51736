"""tools/model_tools/merge_adapter.py"""

import copy

import pytest
import torch

from gslora_mm.lora import inject_lora, merged_state_dict, save_adapter
from tests.detectors import build_detector
from tests.test_lora.helpers import perturb
from tests.test_tools.helpers import load_tool

main = load_tool('model_tools/merge_adapter').main


class Anything:
    """An object that a checkpoint has to run code for."""


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A checkpoint as mmengine leaves it, an adapter, and their merge."""
    folder = tmp_path_factory.mktemp('files')
    model = build_detector('deformable_detr')
    torch.save(
        dict(
            meta=dict(dataset_meta=dict(classes=('a', 'b')), epoch=12),
            state_dict=copy.deepcopy(model.state_dict()),
            optimizer=dict(state={}),
        ),
        folder / 'stock.pth',
    )
    inject_lora(model, rank=4, alpha=2.0, target='all')
    save_adapter(perturb(model), folder / 'adapter.safetensors')
    return folder, merged_state_dict(model)


def test_gives_the_stock_checkpoint_of_the_merged_model(
    files, tmp_path, capsys
):
    folder, expected = files
    out = tmp_path / 'new' / 'merged.pth'
    main(
        [
            str(path)
            for path in (
                folder / 'stock.pth',
                folder / 'adapter.safetensors',
                out,
            )
        ]
    )
    assert 'updates of rank 4 folded in' in capsys.readouterr().out
    checkpoint = torch.load(out, weights_only=True)
    assert set(checkpoint) == {'meta', 'state_dict'}
    assert checkpoint['meta']['dataset_meta'] == dict(classes=('a', 'b'))
    state = checkpoint['state_dict']
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in state)
    fresh = build_detector('deformable_detr', seed=1)
    fresh.load_state_dict(state, strict=True)


def test_errors_name_the_file_and_write_nothing(files, tmp_path):
    folder, _ = files
    stock, adapter = folder / 'stock.pth', folder / 'adapter.safetensors'
    other = tmp_path / 'other.pth'
    torch.save(build_detector('detr').state_dict(), other)
    out = tmp_path / 'merged.pth'
    for checkpoint, update, message in [
        (tmp_path / 'none.pth', adapter, 'error: .*none.pth'),
        (stock, tmp_path / 'none', 'error: adapter .*no such file'),
        (stock, stock, 'error: adapter .*not a complete safetensors'),
        (other, adapter, 'error: adapter does not fit.*missing in the check'),
    ]:
        with pytest.raises(SystemExit, match=message):
            main([str(checkpoint), str(update), str(out)])
    code = tmp_path / 'code.pth'
    torch.save(dict(meta=Anything()), code)
    with pytest.raises(SystemExit, match='error: --allow-pickle = False: '):
        main([str(code), str(adapter), str(out)])
    assert not out.exists()
