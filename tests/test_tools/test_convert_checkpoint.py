"""tools/model_tools/convert_checkpoint.py"""

import argparse
import pickle

import pytest
import torch
from safetensors.torch import save_file

from gslora_mm.models.converters import SOURCES
from tests.test_models.test_converters import layouts
from tests.test_models.test_converters.test_classifiers import (
    CLASSES,
    DEPTH,
    HEADS,
    PATCH,
    SIZE,
    WIDTH,
    face_checkpoint,
    torchvision_vit,
)
from tests.test_tools.helpers import load_tool

main = load_tool('model_tools/convert_checkpoint').main

CONFIG = f"""
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims={WIDTH}, num_layers={DEPTH}, num_heads={HEADS},
                  feedforward_channels={2 * WIDTH}),
        img_size={SIZE}, patch_size={PATCH}, qkv_bias=False),
    head=dict(type='gslora_mm.CosFaceClsHead', num_classes=NUM,
              in_channels={WIDTH}))
train_dataloader = dict(dataset=dict(
    metainfo=dict(classes=['a', 'b'])))
"""


@pytest.fixture
def files(tmp_path):
    # as a run on several GPUs leaves it
    torch.save(
        {f'module.{k}': v for k, v in face_checkpoint().items()},
        tmp_path / 'face.pth',
    )
    (tmp_path / 'config.py').write_text(CONFIG.replace('NUM', str(CLASSES)))
    return tmp_path


def convert(folder, *flags, source='face_transformer', name='face.pth'):
    out = folder / 'new' / 'stock.pth'
    main(['--from', source, *flags, str(folder / name), str(out)])
    return torch.load(out, weights_only=True)


def test_gives_a_stock_checkpoint(files, capsys):
    heads = ('--num-heads', str(HEADS))
    plain = convert(files, *heads)
    tried = convert(files, *heads, '--config', str(files / 'config.py'))
    assert f'stock.pth: {len(plain["state_dict"])} tensors' in (
        capsys.readouterr().out
    )
    expected = SOURCES['face_transformer'].convert(
        face_checkpoint(), num_heads=HEADS
    )
    for checkpoint in (plain, tried):
        assert set(checkpoint) == {'meta', 'state_dict'}
        assert set(checkpoint['state_dict']) == set(expected)
        for key, value in expected.items():
            assert torch.equal(checkpoint['state_dict'][key], value)
    assert tried['meta']['dataset_meta'] == {'classes': ['a', 'b']}


def test_torchvision(files):
    torch.save(torchvision_vit().state_dict(), files / 'vit.pth')
    found = convert(files, source='torchvision_vit', name='vit.pth')
    assert 'head.layers.head.weight' in found['state_dict']


def test_tells_what_it_is(files, capsys):
    save_file(layouts.draw(layouts.hf_detr()), files / 'model.safetensors')
    found = convert(files, source='auto', name='model.safetensors')
    assert 'bbox_head.fc_cls.weight' in found['state_dict']
    said = capsys.readouterr().out
    assert 'model.safetensors: Hugging Face DetrForObjectDetection' in said
    assert f'model.num_queries = {layouts.QUERIES}' in said
    assert 'bgr_to_rgb=True' in said

    torch.save({'fc.weight': torch.zeros(1)}, files / 'other.pth')
    with pytest.raises(SystemExit, match="no known source, first .'fc.weig"):
        convert(files, source='auto', name='other.pth')


def test_rows_of_classes(files):
    state = layouts.draw(layouts.detr())
    checkpoint = dict(model=state, args=argparse.Namespace(lr=1))
    torch.save(checkpoint, files / 'in.pth')
    out = files / 'out.pth'
    main([str(files / 'in.pth'), str(out), '--class-rows', '2', '1'])
    found = torch.load(out)['state_dict']['bbox_head.fc_cls.bias']
    assert torch.equal(found, state['class_embed.bias'][[2, 1, 5]])
    with pytest.raises(SystemExit, match=r'--class-rows = \[7\]: must be'):
        main([str(files / 'in.pth'), str(out), '--class-rows', '7'])
    with pytest.raises(SystemExit, match='--class-rows = .*is for deform'):
        main(['--from', 'timm_vit', *map(str, (files / 'in.pth', out)),
              '--class-rows', '1'])  # fmt: skip


def test_several_sets_of_weights(files, capsys):
    model, averaged = (
        layouts.draw(layouts.detr(), seed=seed) for seed in range(2)
    )
    torch.save(dict(model=model, ema_model=averaged), files / 'both.pth')
    found = convert(files, source='auto', name='both.pth')['state_dict']
    key = 'bbox_head.fc_cls.bias'
    assert torch.equal(found[key], model['class_embed.bias'])
    assert "'model' of ['model', 'ema_model']" in capsys.readouterr().out
    found = convert(
        files, '--weights', 'ema_model', source='auto', name='both.pth'
    )
    assert torch.equal(found['state_dict'][key], averaged['class_embed.bias'])
    with pytest.raises(SystemExit, match="--weights = 'a': IN has .'model'"):
        convert(files, '--weights', 'a', source='auto', name='both.pth')


def test_what_cannot_be_converted(files):
    (files / 'config.py').write_text(CONFIG.replace('NUM', '3'))
    with pytest.raises(SystemExit, match='does not fit the model'):
        convert(files, '--config', str(files / 'config.py'),
                '--num-heads', str(HEADS))  # fmt: skip
    with pytest.raises(SystemExit, match='IN = .*not that of a torchvision'):
        convert(files, source='torchvision_vit')
    with pytest.raises(SystemExit, match='--num-heads = 2: is for face_tr'):
        convert(files, '--num-heads', '2', source='torchvision_vit')
    with pytest.raises(SystemExit, match='--num-heads = 5'):
        convert(files, '--num-heads', '5')
    assert not (files / 'new').exists()


def test_no_code_is_run(files):
    class Trap:
        def __reduce__(self):
            return print, ('executed',)

    with open(files / 'trap.pth', 'wb') as file:
        pickle.dump(dict(state_dict=Trap()), file)
    torch.save(dict(state_dict=Trap()), files / 'trap.pth')
    with pytest.raises(
        SystemExit, match='--allow-pickle = False.*holds more than data'
    ):
        convert(files, name='trap.pth')
