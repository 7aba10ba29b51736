"""Configs of the new style, and what NumPy prints into dumped ones."""

import re
import subprocess
import sys

import pytest

from gslora_mm.registry import init_scope
from gslora_mm.utils import ConfigError
from gslora_mm.utils.config_file import read_config

NEW = """
from mmdet.evaluation import CocoMetric
from mmdet.models import DETR, L1Loss
from mmcv.transforms import LoadImageFromFile

default_scope = None
model = dict(type=DETR, loss=dict(type=L1Loss, loss_weight=5.0))
pipeline = [dict(type=LoadImageFromFile)]
val_evaluator = [dict(type=CocoMetric)]
"""


@pytest.fixture
def new_style(tmp_path):
    path = tmp_path / 'new.py'
    path.write_text(NEW)
    return path


def check_types(cfg):
    assert init_scope(cfg) == cfg.default_scope == 'mmdet'
    content = cfg.to_dict()
    assert content['model']['type'] == 'mmdet.DETR'
    assert content['model']['loss']['type'] == 'mmdet.L1Loss'
    assert content['val_evaluator'] == [dict(type='mmdet.CocoMetric')]
    (transform,) = content['pipeline']
    assert transform['type'].startswith('mmcv.transforms.')


def test_types_of_the_new_style_get_their_names(new_style):
    check_types(read_config(str(new_style)))


def test_the_new_style_as_base_of_the_old_one(new_style, tmp_path):
    path = tmp_path / 'old.py'
    path.write_text("_base_ = 'new.py'\n")
    with pytest.raises(ConfigError, match='_base_: in .*old.py') as caught:
        read_config(str(path))
    code = re.search('python -c "(.*)"$', str(caught.value))[1]
    subprocess.run([sys.executable, '-c', _named(code, new_style)], check=True)
    path.write_text(f"_base_ = '{new_style.stem}_dumped.py'\n")
    check_types(read_config(str(path)))


def _named(code, path):
    dumped = path.with_stem(f'{path.stem}_dumped')
    return code.replace('NEW.py', str(path)).replace('OLD.py', str(dumped))


def test_numbers_as_numpy_prints_them(tmp_path):
    path = tmp_path / 'dumped.py'
    path.write_text('lr = np.float64(0.001)\nsize = [np.int64(3), 4]\n')
    with pytest.raises(ConfigError, match='numbers as NumPy') as caught:
        read_config(str(path))
    command = str(caught.value).partition('alone: ')[2]
    subprocess.run(command.replace('FILE', str(path)), shell=True, check=True)
    assert read_config(str(path)).to_dict() == dict(lr=0.001, size=[3, 4])


def test_other_mistakes_stay_what_they_are(tmp_path):
    path = tmp_path / 'wrong.py'
    path.write_text('lr = nope\n')
    with pytest.raises(NameError, match='nope'):
        read_config(str(path))


def test_configs_of_this_package_by_name():
    cfg = read_config('gslora_mm::mini/vit_mini-digits.py')
    assert cfg.model.type == 'ImageClassifier'
    name = 'gslora_mm::mini/vit_mini-digit.py'
    with pytest.raises(ConfigError, match="mean 'gslora_mm::mini/vit_mini-d"):
        read_config(name)
    with pytest.raises(ConfigError, match="CONFIG = 'no.py': no such file"):
        read_config('no.py')
