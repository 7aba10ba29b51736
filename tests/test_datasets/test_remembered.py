"""Samples that are read once."""

import random

import numpy as np
import pytest
import torch

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.datasets.remembered import (
    KEY,
    RememberedDataset,
    draws_numbers,
)
from gslora_mm.utils.tensor_store import TensorStore

OWN = np.random.RandomState(0)


@pytest.fixture
def make(make_dataset):
    def make(draw):
        return ForgetRetainDataset(
            make_dataset([[4]] * 3 + [[0]] * 4, draw),
            forget=dict(classes=['dog']),
            retain=dict(classes=['person']),
        )

    return make


def test_reads_a_sample_once(make):
    read = []

    def draw():
        read.append(torch.rand(2))
        return read[-1]

    dataset = make(draw)
    remembered = RememberedDataset(dataset, TensorStore(1_000))
    keys = [(0, 11), (5, 12), (0, 13)]
    assert remembered.read(keys)
    assert len(remembered) == len(read) == 3
    expected = [dataset[key]['inputs'] for key in keys]
    read.clear()
    for _ in range(2):
        for key, inputs in zip(keys, expected, strict=True):
            sample = remembered[key]
            assert torch.equal(sample['inputs'], inputs)
            metainfo = sample['data_samples'].metainfo
            assert metainfo[KEY] == key
            assert metainfo['role'] == ('forget' if key[0] < 3 else 'retain')
    assert not read
    assert remembered.shape(keys[0]) == (2,)
    assert remembered.metainfo['classes'] == dataset.metainfo['classes']


def test_what_has_no_room_is_read_anew(make):
    remembered = RememberedDataset(
        make(lambda: torch.ones(2)), TensorStore(20)
    )
    assert not remembered.read([(0, 1), (1, 2), (2, 3)])
    assert len(remembered) == 2
    assert remembered[2, 3]['inputs'].sum() == 2


@pytest.mark.parametrize(
    'draw, is_random',
    [
        (lambda: torch.ones(1), False),
        (lambda: torch.rand(1), True),
        (random.random, True),
        (np.random.rand, True),
        # With a generator of its own.
        (lambda: torch.tensor(OWN.rand()), True),
        # Whether or not anything comes of it.
        (lambda: 1.0 + 0 * np.random.rand(), True),
    ],
)
def test_tells_whether_a_pipeline_is_random(make, draw, is_random):
    assert draws_numbers(make(draw), (4, 7)) == is_random


def test_what_workers_have_read_holds_no_file_open(make):
    dataset = make(lambda: torch.rand(2))
    remembered = RememberedDataset(dataset, TensorStore(1_000))
    keys = [(i, i) for i in range(7)]
    pipeline = dataset.datasets[0].dataset.pipeline

    def with_labels(info):
        sample = pipeline(info)
        sample['data_samples'].labels = torch.ones(3)
        return sample

    dataset.datasets[0].dataset.pipeline = with_labels
    assert remembered.read(keys, num_workers=1)
    for key in keys:
        sample = remembered[key]
        assert torch.equal(sample['inputs'], dataset[key]['inputs'])
        assert not sample['inputs'].is_shared()
        assert not sample['data_samples'].labels.is_shared()
