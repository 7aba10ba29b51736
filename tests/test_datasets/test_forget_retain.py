import itertools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gslora_mm.datasets import (
    ForgetRetainDataset,
    ForgetRetainSampler,
    LabelTable,
)
from gslora_mm.datasets.forget_retain import seeded
from gslora_mm.registry import DATASETS
from gslora_mm.utils import ConfigError


def draw_all():
    """One number of each of the generators that pipelines use."""
    return random.random(), np.random.rand(), torch.rand(1).item()


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def fresh_generators():
    seed_all(0)


@pytest.fixture
def dataset(make_dataset, random_labels):
    return ForgetRetainDataset(
        make_dataset(random_labels, draw_all),
        forget=dict(classes=['dog']),
        retain=dict(classes=['person', 'car'], share=0.5),
    )


def test_halves_over_one_data_set(dataset):
    forget, retain = dataset.datasets
    assert (forget.role, retain.role) == ('forget', 'retain')
    assert forget.dataset is retain.dataset
    assert dataset.cumulative_sizes == [len(forget), len(dataset)]
    assert dataset.metainfo == forget.dataset.metainfo
    roles = [dataset[i]['data_samples'].role for i in range(len(dataset))]
    assert roles == ['forget'] * len(forget) + ['retain'] * len(retain)
    for i in range(len(dataset)):
        kept = {4} if i < len(forget) else {0, 2}
        instances = dataset.get_data_info(i)['instances']
        assert instances
        assert {instance['bbox_label'] for instance in instances} <= kept


def test_annotations_are_read_once(monkeypatch, make_dataset, random_labels):
    scans, loads = [], []
    scan = LabelTable.scan
    monkeypatch.setattr(
        LabelTable, 'scan', lambda data: scans.append(data) or scan(data)
    )
    base = make_dataset(random_labels, lazy_init=True)
    load = base.load_data_list
    base.load_data_list = lambda: loads.append(1) or load()
    halves = dict(forget=dict(classes=['dog']), retain=dict(classes=['car']))
    ForgetRetainDataset(base, **halves).full_init()
    assert len(scans) == len(loads) == 1
    ForgetRetainDataset(base, **halves, table=scan(base))
    assert len(scans) == len(loads) == 1


@pytest.mark.parametrize('role', ['forget', 'retain'])
def test_a_half_may_be_empty(make_dataset, random_labels, role):
    halves = dict(forget=dict(classes=['dog']), retain=dict(classes=['car']))
    halves[role] = dict(classes=['dog'], shots=10**6, is_used=False)
    dataset = ForgetRetainDataset(make_dataset(random_labels), **halves)
    sizes = [len(half) for half in dataset.datasets]
    assert sizes[role == 'retain'] == 0 < len(dataset) == sum(sizes)
    (other,) = set(halves) - {role}
    # What methods ask a half for is there.
    half = dataset.datasets[role == 'retain']
    assert half.role == role and half.labels.tolist() == [4]
    assert half.class_counts == dict(dog=0) and half.indices.tolist() == []
    for index in (0, len(dataset) - 1):
        assert dataset[index]['data_samples'].role == other
    assert 'dog' in dataset.metainfo['classes']
    ratio = float(role == 'retain')
    sampler = ForgetRetainSampler(dataset, 4, ratio)
    drawn = {index for index, _ in itertools.islice(sampler, len(dataset))}
    assert drawn == set(range(len(dataset)))
    assert sampler.iterations_per_epoch == -(-len(dataset) // 4)
    with pytest.raises(
        ConfigError, match=f'the dataset has {role}.is_used=False'
    ):
        ForgetRetainSampler(dataset, 4, 0.5)


@pytest.mark.parametrize('half', ['forget', 'retain'])
def test_errors_name_the_half(make_dataset, random_labels, half):
    halves = dict(forget=dict(classes=['dog']), retain=dict(classes=['car']))
    for settings, message in (
        (dict(share=1.2), 'share = 1.2: must be in'),
        (dict(classes=['dgo']), "classes: unknown name 'dgo'. .*'dog'"),
        (dict(shots=999), 'shots = 999: only .* images show'),
    ):
        changed = {**halves, half: {**halves[half], **settings}}
        with pytest.raises(ConfigError, match=rf'^{half}\.{message}'):
            ForgetRetainDataset(make_dataset(random_labels), **changed)
    with pytest.raises(ConfigError, match='^dataset: ListDataset of 1 images'):
        ForgetRetainDataset(make_dataset([[]]), **halves)


def test_negative_and_impossible_indices(dataset):
    last = dataset.get_data_info(len(dataset) - 1)
    assert dataset.get_data_info(-1) == last
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=f'index {index} of'):
            dataset[index]


def test_sample_depends_on_index_and_seed_alone(dataset):
    first = dataset[3, 17]['inputs']
    draw_all()
    dataset[5]
    assert dataset[3, 17]['inputs'] == first
    assert dataset[3, 18]['inputs'] != first
    assert dataset[3]['inputs'] != first


def test_global_generators_are_put_back(dataset):
    expected = draw_all()
    seed_all(0)
    dataset[3, 17]
    assert draw_all() == expected
    seed_all(0)
    with pytest.raises(KeyError), seeded(5):
        draw_all()
        raise KeyError
    assert draw_all() == expected


def test_failed_sample_is_replaced_within_its_half(
    make_dataset, random_labels
):
    def draw():
        value = np.random.rand()
        return value if value > 0.8 else None

    dataset = ForgetRetainDataset(
        make_dataset(random_labels, draw),
        forget=dict(classes=['dog']),
        retain=dict(classes=['person']),
    )
    num_forget = dataset.cumulative_sizes[0]
    images = []
    for index in (0, 1, num_forget, num_forget + 1):
        role = 'forget' if index < num_forget else 'retain'
        subset = dataset.datasets[role == 'retain']
        img_ids = {
            info['img_id']
            for info in map(subset.get_data_info, range(len(subset)))
        }
        for seed in range(10):
            sample = dataset[index, seed]['data_samples']
            assert sample.role == role
            assert sample.img_id in img_ids
            seed_all(seed + 1)
            again = dataset[index, seed]['data_samples']
            assert again.img_id == sample.img_id
            images.append((index, sample.img_id))
    assert len(set(images)) > 20  # replacements are not always the same


def test_batches_do_not_depend_on_workers(dataset):
    def batches(num_workers):
        loader = DataLoader(
            dataset,
            batch_size=4,
            sampler=ForgetRetainSampler(dataset, 4),
            num_workers=num_workers,
            collate_fn=list,
        )
        return [
            [(d['inputs'], d['data_samples'].img_id) for d in batch]
            for batch, _ in zip(loader, range(6), strict=False)
        ]

    assert batches(0) == batches(2)


def test_from_config(mini_coco):
    dataset = DATASETS.build(
        dict(
            type='ForgetRetainDataset',
            dataset=dict(
                type='mmdet.CocoDataset',
                data_root=str(mini_coco),
                ann_file='annotations/instances_train.json',
                data_prefix=dict(img='train/'),
                metainfo=dict(
                    classes=(
                        *('zero', 'one', 'two', 'three', 'four', 'five'),
                        *('six', 'seven', 'eight', 'nine'),
                    )
                ),
                pipeline=[
                    dict(type='mmdet.LoadImageFromFile'),
                    dict(type='mmdet.LoadAnnotations', with_bbox=True),
                    dict(type='mmdet.RandomFlip', prob=0.5),
                    dict(type='mmdet.PackDetInputs'),
                ],
            ),
            forget=dict(classes=['three']),
            retain=dict(classes=['one', 'two'], share=0.5),
        )
    )
    flips = [dataset[0, seed]['data_samples'].flip for seed in range(10)]
    assert flips == [
        dataset[0, seed]['data_samples'].flip for seed in range(10)
    ]
    assert len(set(flips)) == 2


def test_what_is_set_aside_is_in_no_half(make_dataset):
    """Images 0 to 29 show a person, 15 to 59 a bicycle; 15 show both."""
    images = [[0]] * 15 + [[0, 1]] * 15 + [[1]] * 30
    halves = dict(
        forget=dict(classes=['person']), retain=dict(classes=['bicycle'])
    )
    whole = ForgetRetainDataset(make_dataset(images), **halves)
    split = ForgetRetainDataset(make_dataset(images), **halves, held_out=0.3)
    assert [len(half) for half in whole.held_out] == [0, 0]
    aside = [set(half.indices.tolist()) for half in split.held_out]
    assert [len(half) for half in aside] == [9, 14]
    for before, half in zip(whole.datasets, split.datasets, strict=True):
        left = set(before.indices.tolist()) - aside[0] - aside[1]
        assert set(half.indices.tolist()) == left
        assert list(half.class_counts.values()) == [len(left)]
    # The rest would be too few, and is not taken by the other half either.
    few = ForgetRetainDataset(make_dataset(images), **halves, held_out=0.9)
    assert [len(half) for half in few.held_out] == [0, 30]
    # And so would what is set aside, of one half.
    few = ForgetRetainDataset(make_dataset(images), **halves, held_out=0.2)
    assert [len(half) for half in few.held_out] == [0, 9]


@pytest.mark.parametrize('share', [0.15, 0.5])
def test_a_half_that_spares_none_loses_none_to_the_other(make_dataset, share):
    halves = dict(
        forget=dict(classes=['person']), retain=dict(classes=['bicycle'])
    )
    images = [[0, 1]] * 8 + [[1]] * 60
    split = ForgetRetainDataset(
        make_dataset(images), **halves, held_out=share
    )
    assert len(split.held_out[0]) == 0 < len(split.held_out[1])
    assert len(split.datasets[0]) == 8


@pytest.mark.parametrize('share', [-0.1, 1])
def test_only_a_part_can_be_set_aside(make_dataset, share):
    halves = dict(
        forget=dict(classes=['person']), retain=dict(classes=['bicycle'])
    )
    with pytest.raises(ConfigError, match=rf'^held_out = {share}: must be in'):
        ForgetRetainDataset(make_dataset([[0], [1]]), **halves, held_out=share)


def test_images_of_both_halves_are_set_aside_once(make_dataset):
    halves = dict(
        forget=dict(classes=['person']), retain=dict(classes=['bicycle'])
    )
    images = [[0, 1]] * 40 + [[1]] * 40
    split = ForgetRetainDataset(make_dataset(images), **halves, held_out=0.3)
    forget, retain = (set(half.indices) for half in split.held_out)
    assert len(forget) == 12 and len(retain) == 24
    assert forget < retain
