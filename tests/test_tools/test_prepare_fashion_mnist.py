"""tools/dataset_tools/prepare_fashion_mnist.py, without a network."""

import sys
import urllib.error

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.registry import DATASETS
from gslora_mm.utils import ConfigError
from tests.fashion_files import COUNTS, make_packed
from tests.test_docs import CONFIGS
from tests.test_tools.helpers import load_tool


@pytest.fixture
def tool():
    return load_tool('dataset_tools/prepare_fashion_mnist')


@pytest.fixture
def packed(tmp_path):
    return make_packed(tmp_path / 'packed')


def test_mmpretrain_reads_what_is_unpacked(tool, packed, tmp_path):
    root = tmp_path / 'data'
    assert tool.prepare(root, packed) == f'unpacked from {packed}'
    assert tool.prepare(root, 'nowhere') == 'ready'
    cfg = Config.fromfile(CONFIGS / 'mini/vit_fashion-mnist.py')
    init_default_scope(cfg.default_scope)
    loaders = (cfg.train_dataloader, cfg.val_dataloader)
    for loader, count in zip(loaders, COUNTS.values(), strict=True):
        loader.dataset.data_root = str(root)
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == count
        sample = dataset[1]
        assert sample['inputs'].shape == (1, 28, 28)
        assert sample['data_samples'].gt_label.item() == 1


def test_what_is_nowhere_says_where_to_get_it(
    tool, tmp_path, monkeypatch, capsys
):
    def refuse(*args):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr('urllib.request.urlopen', refuse)
    arguments = ['tool', '--root', str(tmp_path / 'data'), '--source', 'none']
    monkeypatch.setattr(sys, 'argv', arguments)
    expected = 'error: --source = .none.: .* no network.*dataset-fashion-mnist'
    with pytest.raises(SystemExit, match=expected):
        tool.main()


def test_a_damaged_file_is_not_unpacked(tool, packed, tmp_path):
    path = packed / 'train-images-idx3-ubyte.gz'
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match='train-images.* is damaged'):
        tool.prepare(tmp_path / 'data', packed)
    assert not list((tmp_path / 'data').glob('train-images*'))
