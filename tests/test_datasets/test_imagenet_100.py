from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from gslora_mm.datasets import ImageNet100
from gslora_mm.datasets.imagenet_100 import IMAGENET_100, imagenet_names
from gslora_mm.utils import ConfigError

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'


def make_images(root, names):
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        pixels = np.full((20, 30, 3), index % 256, np.uint8)
        for number in (1, 0):
            Image.fromarray(pixels).save(root / name / f'{name}_{number}.JPEG')


@pytest.fixture(scope='module')
def thousand(tmp_path_factory):
    """Folders of all classes, a few of them with the ids of ILSVRC 2012."""
    root = tmp_path_factory.mktemp('imagenet')
    ids = {label: name for name, label in IMAGENET_100.items()}
    previous = 'n01400000'
    for label in range(1000):
        previous = ids.get(label) or f'n{int(previous[1:]) + 1:08d}'
        (root / previous).mkdir()
        (root / previous / 'a.JPEG').touch()
    return root


def test_list():
    assert len(IMAGENET_100) == 100
    labels = list(IMAGENET_100.values())
    assert labels == sorted(set(labels)) and 0 <= min(labels) <= max(labels)
    assert list(IMAGENET_100) == sorted(IMAGENET_100)
    assert max(labels) < 1000


def test_labels_are_those_of_the_names():
    """Spot checks against the synonyms that belong to the ids."""
    names = imagenet_names()
    for wnid, name in (
        ('n01558993', 'robin'),
        ('n02085620', 'Chihuahua'),
        ('n02701002', 'ambulance'),
        ('n03642806', 'laptop'),
        ('n07753275', 'pineapple'),
        ('n13040303', 'stinkhorn'),
    ):
        assert names[IMAGENET_100[wnid]] == name


def test_names_are_unique():
    names = imagenet_names()
    assert len(set(names)) == len(names) == 1000
    assert names[134] == 'crane 134' and names[517] == 'crane 517'


def test_hundred_classes(tmp_path):
    # Folders of other classes, and files beside them, are left alone.
    make_images(tmp_path / 'train', [*IMAGENET_100, 'n01440764'])
    (tmp_path / 'train' / 'LOC.csv').touch()
    dataset = ImageNet100(data_root=str(tmp_path), data_prefix='train')
    assert len(dataset) == 200
    assert dataset.metainfo['classes'] == imagenet_names()
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(200)]
    assert labels == np.repeat(list(IMAGENET_100.values()), 2).tolist()
    assert dataset.get_data_info(0)['img_path'].endswith('n01558993_0.JPEG')


def test_others(thousand):
    dataset = ImageNet100(data_prefix=str(thousand), others=True)
    assert len(dataset) == 1000
    for label in range(0, 1000, 37):
        assert dataset.get_data_info(label)['gt_label'] == label
    few = ImageNet100(data_prefix=str(thousand))
    assert [few.get_data_info(i)['gt_label'] for i in range(100)] == list(
        IMAGENET_100.values()
    )


def test_missing_folders(tmp_path):
    with pytest.raises(ConfigError, match='100 of the 100 folders'):
        ImageNet100(data_prefix=str(tmp_path / 'nowhere'))
    make_images(tmp_path, list(IMAGENET_100)[1:])
    with pytest.raises(ConfigError, match='1 of the 100 .* n01558993'):
        ImageNet100(data_prefix=str(tmp_path))
    (tmp_path / 'n01558993').mkdir()
    with pytest.raises(ConfigError, match='n01558993 holds no image'):
        ImageNet100(data_prefix=str(tmp_path))
    with pytest.raises(
        ConfigError, match='^data_prefix = .* holds 100 folders .* others=True'
    ):
        ImageNet100(data_prefix=str(tmp_path), others=True)


def test_imagenet_config(tmp_path):
    make_images(tmp_path / 'train', IMAGENET_100)
    cfg = Config.fromfile(CONFIGS / 'imagenet_100.py')
    init_default_scope('mmpretrain')
    cfg.train_dataloader.update(
        batch_size=3, num_workers=0, persistent_workers=False
    )
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batch = next(iter(loader))
    assert [image.shape for image in batch['inputs']] == [(3, 224, 224)] * 3
    for sample in batch['data_samples']:
        folder = Path(sample.img_path).parent.name
        assert sample.gt_label.item() == IMAGENET_100[folder]


def test_casia_config(tmp_path):
    cfg = Config.fromfile(CONFIGS / 'casia_100.py')
    classes = cfg.metainfo.classes
    assert len(set(classes)) == 100
    # The order of published labels, and that in which folders are read.
    assert list(classes) == sorted(classes)
    assert list(classes[:3]) == ['1005', '1014', '1022']
    for name in classes:
        folder = tmp_path / 'train' / name
        folder.mkdir(parents=True)
        Image.new('RGB', (112, 112)).save(folder / '0.jpg')
    init_default_scope('mmpretrain')
    cfg.train_dataloader.update(
        batch_size=3, num_workers=0, persistent_workers=False
    )
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batch = next(iter(loader))
    assert [image.shape for image in batch['inputs']] == [(3, 112, 112)] * 3
    for sample in batch['data_samples']:
        folder = Path(sample.img_path).parent.name
        assert classes[sample.gt_label.item()] == folder
