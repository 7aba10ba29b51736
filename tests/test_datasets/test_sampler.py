from itertools import islice

import numpy as np
import pytest
from mmengine.runner import Runner

from gslora_mm.datasets import ForgetRetainDataset, ForgetRetainSampler
from gslora_mm.utils import ConfigError


@pytest.fixture
def dataset(make_dataset):
    """7 images to forget, then 12 to retain."""
    return ForgetRetainDataset(
        make_dataset([[4]] * 7 + [[0]] * 12),
        forget=dict(classes=['dog']),
        retain=dict(classes=['person']),
    )


def take(sampler, count):
    return list(islice(sampler, count))


@pytest.mark.parametrize(
    'batch_size, ratio, num_forget',
    [(8, 0.5, 4), (6, 0.3, 2), (5, 0.5, 3), (2, 0.5, 1), (10, 0.06, 1)],
)
def test_forget_half_comes_first(dataset, batch_size, ratio, num_forget):
    sampler = ForgetRetainSampler(dataset, batch_size, ratio)
    assert sampler.half_sizes == (num_forget, batch_size - num_forget)
    indices = np.array(take(sampler, 9 * batch_size))[:, 0]
    is_forget = (indices < 7).reshape(9, batch_size)
    assert is_forget[:, :num_forget].all()
    assert not is_forget[:, num_forget:].any()


def test_every_image_once_each_time_around(dataset):
    drawn = take(ForgetRetainSampler(dataset, 4), 4 * 42)
    forget = [index for index, _ in drawn if index < 7]
    retain = [index for index, _ in drawn if index >= 7]
    rounds = [forget[i : i + 7] for i in range(0, 84, 7)]
    assert all(sorted(one) == list(range(7)) for one in rounds)
    assert len({tuple(one) for one in rounds}) == len(rounds)  # reshuffled
    rounds = [retain[i : i + 12] for i in range(0, 84, 12)]
    assert all(sorted(one) == list(range(7, 19)) for one in rounds)
    assert len({seed for _, seed in drawn}) == len(drawn)
    assert all(0 <= seed < 2**32 for _, seed in drawn)


def test_iterations_of_one_pass_over_the_retain_images(dataset, monkeypatch):
    sampler = ForgetRetainSampler(dataset, 8, 0.25)  # six of twelve
    assert sampler.iterations_per_epoch == 2
    assert ForgetRetainSampler(dataset, 10).iterations_per_epoch == 3
    monkeypatch.setattr(
        'gslora_mm.datasets.sampler.get_dist_info', lambda: (0, 3)
    )
    assert ForgetRetainSampler(dataset, 4).iterations_per_epoch == 2


def test_without_shuffling(dataset):
    drawn = take(ForgetRetainSampler(dataset, 4, shuffle=False), 12)
    assert [index for index, _ in drawn] == [
        *(0, 1, 7, 8),
        *(2, 3, 9, 10),
        *(4, 5, 11, 12),
    ]


def test_seed_decides_everything(dataset):
    expected = np.random.RandomState(3).rand()
    np.random.seed(3)
    first = take(ForgetRetainSampler(dataset, 4, seed=1), 60)
    assert np.random.rand() == expected  # nothing global is touched
    assert take(ForgetRetainSampler(dataset, 4, seed=1), 60) == first
    assert take(ForgetRetainSampler(dataset, 4, seed=2), 60) != first


def test_sequence_stays_the_same():
    """Whoever resumes a run with a later version continues the same one."""

    class Dataset:
        datasets = [range(3), range(4)]
        cumulative_sizes = [3, 7]

    assert take(ForgetRetainSampler(Dataset(), 4, seed=0), 4) == [
        (0, 2968811710),
        (2, 3831201730),
        (6, 3964924996),
        (3, 901243215),
    ]


@pytest.mark.parametrize('skipped', [0, 1, 4, 10, 57])
def test_skip_is_absolute_and_lasting(dataset, skipped):
    expected = take(ForgetRetainSampler(dataset, 4), 80)[skipped:]
    sampler = ForgetRetainSampler(dataset, 4)
    take(sampler, 9)
    sampler.skip(3)
    sampler.skip(skipped)
    assert take(sampler, 80 - skipped) == expected
    assert take(sampler, 80 - skipped) == expected
    with pytest.raises(ValueError, match='num_samples=-1'):
        sampler.skip(-1)


@pytest.mark.parametrize('world_size', [2, 3, 4])
@pytest.mark.parametrize('batch_size, ratio', [(4, 0.5), (4, 0.25)])
def test_processes_draw_the_joint_batch(
    dataset, monkeypatch, world_size, batch_size, ratio
):
    joint = ForgetRetainSampler(dataset, batch_size * world_size, ratio)
    ranks = []
    for rank in range(world_size):
        monkeypatch.setattr(
            'gslora_mm.datasets.sampler.get_dist_info',
            lambda rank=rank: (rank, world_size),
        )
        ranks.append(ForgetRetainSampler(dataset, batch_size, ratio))
    together = zip(*map(iter, ranks), strict=True)
    whole = iter(joint)
    for _ in range(15):
        drawn = [d for _ in range(batch_size) for d in next(together)]
        expected = take(whole, batch_size * world_size)
        assert sorted(drawn) == sorted(expected)
        assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    'batch_size, ratio', [(1, 0.5), (4, 0.1), (4, 0.9), (4, -1)]
)
def test_empty_half(dataset, batch_size, ratio):
    with pytest.raises(
        ConfigError,
        match=f'forget_ratio = {ratio}: of batch_size = {batch_size}',
    ):
        ForgetRetainSampler(dataset, batch_size, ratio)


@pytest.mark.parametrize('ratio, half', [(0, 1), (1, 0)])
def test_one_half_only(dataset, ratio, half):
    sampler = ForgetRetainSampler(dataset, 4, ratio)
    size = len(dataset.datasets[half])
    start = dataset.cumulative_sizes[0] if half else 0
    indices = [index for index, _ in take(iter(sampler), size)]
    assert sorted(indices) == list(range(start, start + size))
    assert sampler.iterations_per_epoch == -(-size // 4)


def test_in_a_runner_data_loader(dataset):
    def loader(**sampler):
        return Runner.build_dataloader(
            dict(
                batch_size=4,
                num_workers=0,
                dataset=dataset,
                sampler=dict(
                    type='gslora_mm.ForgetRetainSampler',
                    batch_size=4,
                    **sampler,
                ),
            ),
            seed=5,
        )

    batch = next(iter(loader()))
    roles = [sample.role for sample in batch['data_samples']]
    assert roles == ['forget'] * 2 + ['retain'] * 2
    assert loader().sampler.seed == 5
    assert loader(seed=0).sampler.seed == 0
    assert isinstance(loader(seed=None).sampler.seed, int)
    assert len(loader().sampler) == 19


@pytest.mark.parametrize('variants', [1, 2, 3])
def test_repeats_the_samples_of_the_first_times_around(dataset, variants):
    """The order stays, and so do the first seeds of each image."""
    free, bound = (ForgetRetainSampler(dataset, 4) for _ in range(2))
    bound.variants = variants
    drawn, repeated = take(free, 4 * 42), take(bound, 4 * 42)
    assert [i for i, _ in drawn] == [i for i, _ in repeated]
    for image in range(19):
        seeds = [seed for i, seed in drawn if i == image]
        again = [seed for i, seed in repeated if i == image]
        assert again == [seeds[n % variants] for n in range(len(again))]
    bound.skip(50)
    assert take(bound, 30) == repeated[50:80]
