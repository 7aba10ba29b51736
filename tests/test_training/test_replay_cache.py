"""Whether replay images are kept, and what is said where they are not."""

import copy
import itertools
import logging

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from gslora_mm.datasets import ForgetRetainDataset, ForgetRetainSampler
from gslora_mm.training import ForgettingModel
from gslora_mm.training.replay_cache import (
    cache_replay,
    check_replay_cache,
)
from gslora_mm.utils import ConfigError
from tests.detectors import (
    random_batch,
    tiny_detector_config,
    with_level_embed,
)


class Images(BaseDataset):
    """Six random images with boxes; some are flipped, if asked for."""

    METAINFO = dict(classes=('a', 'b', 'c', 'd'))

    def __init__(self, flips=False, widths=(64,)):
        self.batch = random_batch(num_images=6)
        self.flips, self.widths, self.reads = flips, widths, 0
        super().__init__(serialize_data=False, pipeline=[self.read])

    def load_data_list(self):
        instance = dict(bbox=[0, 0, 8, 8], ignore_flag=0)
        return [
            dict(index=i, instances=[{**instance, 'bbox_label': i % 2}])
            for i in range(6)
        ]

    def read(self, info):
        self.reads += 1
        index = info['index']
        width = self.widths[index % len(self.widths)]
        image = self.batch['inputs'][index][..., :width]
        sample = copy.deepcopy(self.batch['data_samples'][index])
        sample.set_metainfo(dict(img_shape=(64, width)))
        if self.flips and np.random.rand() < 0.5:
            image = image.flip(-1)
        return dict(inputs=image, data_samples=sample)


@pytest.fixture
def said(caplog):
    """What the cache has said of itself."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.handler.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def images():
    return Images()


def make_loader(images):
    dataset = ForgetRetainDataset(
        images, dict(classes=['a']), dict(classes=['b'])
    )
    return DataLoader(
        dataset,
        batch_size=4,
        sampler=ForgetRetainSampler(dataset, 4),
        collate_fn=pseudo_collate,
    )


def make_model(adapter=True, **config):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = ForgettingModel(
        {**tiny_detector_config('deformable_detr'), **config},
        dict(type='gslora_mm.DetectionTask'),
        dict(type='gslora_mm.GSLoRA' if adapter else 'gslora_mm.FineTune'),
        dict(rank=2) if adapter else None,
    )
    return with_level_embed(model)


def train(model, loader, iterations=9):
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=0.01
    )
    model.train()
    batches = iter(loader)
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        model.train_step(next(batches), OptimWrapper(optimizer))
    return {k: v.clone() for k, v in model.state_dict().items()}


def inputs_of(loader):
    return [batch['inputs'] for batch in itertools.islice(loader, 12)]


def equal(states, others):
    return all(torch.equal(states[key], others[key]) for key in others)


@pytest.mark.parametrize('store', ['memory', 'file'])
@pytest.mark.parametrize('widths', [(64,), (64, 40, 52)])
def test_training_is_the_same_bit_for_bit(tmp_path, store, widths, said):
    """Whatever the sizes, and with nothing of the trunk moved."""
    expected = train(make_model(), make_loader(Images(widths=widths)))
    images, model = Images(widths=widths), make_model()
    loader = make_loader(images)
    cached = cache_replay(
        model, loader, 9, tmp_path, use='on', store=store
    )
    # A batch more, each image twice, to see whether it is random.
    assert images.reads == 6 + 8
    assert equal(train(model, cached), expected)
    assert images.reads == 6 + 8
    (line,) = said.messages
    assert line.startswith('cache: 6 samples') and 'is frozen' in line
    assert not list(tmp_path.iterdir())


def test_a_resumed_training_has_the_same_numbers(tmp_path):
    """It begins with an empty cache, and other batches fill it."""
    whole, model = make_model(), make_model()
    train(whole, cache_replay(whole, make_loader(Images()), 9, tmp_path))
    loader = make_loader(Images())
    loader.sampler.skip(4 * 5)
    cached = cache_replay(model, loader, 9, tmp_path, use='on')
    model.train()
    for batch in itertools.islice(cached, 4):
        data = model.data_preprocessor(batch, True)
        found = model.trunk_cache.extract(**data)
        kept = whole.trunk_cache.extract(**data)
        assert all(map(torch.equal, found, kept))


@pytest.mark.parametrize(
    'settings, reason',
    [
        (dict(iterations=2), 'used 1.3 times'),
        (dict(flips=True), 'pipeline is random'),
        (dict(limit_gib=1e-5), 'samples alone take'),
        (dict(augments=['BatchSyncRandomResize']), 'batch_augments'),
    ],
)
def test_auto_trains_on_as_ever_and_says_why(
    tmp_path, said, settings, reason
):
    augments = settings.pop('augments', None)
    loader = make_loader(Images(settings.pop('flips', False)))
    model = make_model()
    model.data_preprocessor.batch_augments = augments
    iterations = settings.pop('iterations', 9)
    found = cache_replay(model, loader, iterations, tmp_path, **settings)
    assert found is loader and model.trunk_cache is None
    assert loader.sampler.variants is None
    (line,) = said.messages
    assert line.startswith('cache: nothing') and reason in line
    if iterations == 9:
        if 'limit_gib' not in settings:
            with pytest.raises(ConfigError, match=reason):
                check_replay_cache(model, loader.dataset, 'on')
        with pytest.raises(ConfigError, match=reason) as error:
            cache_replay(model, loader, 9, tmp_path, use='on', **settings)
        assert error.value.path == 'schedule.cache.use'
    assert cache_replay(model, loader, 9, tmp_path, use='off') is loader


def test_auto_keeps_images_where_there_is_no_room_for_more(
    tmp_path, said, images
):
    model = make_model()
    limit = (6 * 3 * 64 * 64 + 1_000) / 2**30
    cached = cache_replay(
        model, make_loader(images), 9, tmp_path, limit_gib=limit
    )
    expected = train(make_model(), make_loader(Images()))
    assert model.trunk_cache is None
    assert 'what is frozen gives about' in said.messages[-1]
    assert equal(train(model, cached), expected)
    with pytest.raises(ConfigError, match='limit_gib leaves'):
        cache_replay(
            make_model(), make_loader(images), 9, tmp_path, 'on', limit
        )


def test_a_trained_trunk_is_computed_every_time(tmp_path, said, images):
    model = make_model(adapter=False)
    cached = cache_replay(model, make_loader(images), 9, tmp_path)
    assert model.trunk_cache is None
    assert 'trunk is trained' in said.messages[-1]
    reads = images.reads
    next(iter(cached))
    assert images.reads == reads
    with pytest.raises(ConfigError, match='trunk is trained'):
        check_replay_cache(model, Images(), 'on')
    with pytest.raises(ConfigError, match='trunk is trained'):
        cache_replay(model, make_loader(images), 9, tmp_path, use='on')


def test_variants_are_those_of_the_first_times_around(tmp_path):
    loader, model = make_loader(Images(flips=True)), make_model()
    cached = cache_replay(
        model, loader, 12, tmp_path, use='on', variants=2
    )
    drawn = inputs_of(cached)
    free = make_loader(Images(flips=True))
    expected = inputs_of(free)
    # Three images of a half, two of a batch: twice around in 3 iterations.
    for found, wanted in zip(drawn[:3], expected[:3], strict=True):
        assert all(map(torch.equal, found, wanted))
    assert len(cached.dataset) == 12
    # Later on, augmentations come again.
    kinds = {image.sum(0).float().std().item() for b in drawn for image in b}
    assert len(kinds) <= 12
