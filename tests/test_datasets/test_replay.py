import numpy as np
import pytest

from gslora_mm.datasets import select_images
from gslora_mm.datasets.replay import unique_pairs


@pytest.fixture
def pairs(random_labels):
    """Images 1000, 1002, ... and what they show."""
    found = [
        (2 * i + 1000, label)
        for i, labels in enumerate(random_labels)
        for label in labels
    ]
    return np.array(found).T


def counts(pairs, selected):
    images, labels = pairs
    return np.bincount(labels[np.isin(images, selected)], minlength=5)


def test_all_images_without_share_and_shots(pairs):
    assert select_images(*pairs).tolist() == list(range(1000, 1400, 2))


@pytest.mark.parametrize('sampling', ['balanced', 'random'])
@pytest.mark.parametrize(
    'share, size', [(0.1, 20), (0.333, 67), (1e-9, 1), (1.0, 200)]
)
def test_share_of_the_images(pairs, sampling, share, size):
    selected = select_images(*pairs, share=share, sampling=sampling)
    assert len(selected) == size
    assert (np.diff(selected) > 0).all()
    assert np.isin(selected, pairs[0]).all()


@pytest.mark.parametrize('sampling', ['balanced', 'random'])
@pytest.mark.parametrize('amount', [dict(share=0.2), dict(shots=3)])
def test_draw_depends_on_the_seed_alone(pairs, sampling, amount):
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    first = select_images(*pairs, **amount, sampling=sampling, seed=1)
    assert np.random.rand() == expected
    shuffled = pairs[:, np.random.permutation(pairs.shape[1])]
    twice = np.concatenate([shuffled, shuffled], axis=1)
    second = select_images(*twice, **amount, sampling=sampling, seed=1)
    assert first.tolist() == second.tolist()
    other = select_images(*pairs, **amount, sampling=sampling, seed=2)
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize('sampling', ['balanced', 'random'])
@pytest.mark.parametrize('shots', [1, 4, 8])
def test_shots_are_reached_by_every_class(pairs, sampling, shots):
    selected = select_images(*pairs, shots=shots, sampling=sampling)
    assert counts(pairs, selected).min() >= shots


def test_balanced_shots_are_fewer_images(pairs):
    balanced = select_images(*pairs, shots=5)
    random = select_images(*pairs, shots=5, sampling='random')
    assert len(balanced) < len(random)
    assert counts(pairs, balanced).max() < counts(pairs, random).max()


def test_balanced_share_evens_out_the_classes(pairs):
    available = counts(pairs, pairs[0])
    balanced = counts(pairs, select_images(*pairs, share=0.3))
    random = counts(pairs, select_images(*pairs, share=0.3, sampling='random'))
    assert balanced[4] == available[4]  # the rare class is used up
    assert np.ptp(balanced[1:4]) < np.ptp(random[1:4])


def test_balanced_draw_is_exact_where_images_show_one_class():
    images, labels = np.arange(90), np.repeat([3, 5, 8], [10, 30, 50])
    shots = select_images(images, labels, shots=7)
    assert np.bincount(labels[shots])[[3, 5, 8]].tolist() == [7, 7, 7]
    share = select_images(images, labels, share=0.5)
    assert np.bincount(labels[share])[[3, 5, 8]].tolist() == [10, 18, 17]


def test_random_draws_are_uniform():
    images = np.arange(10)
    labels = np.zeros(10, int)
    drawn = [
        select_images(images, labels, share=0.3, sampling=sampling, seed=seed)
        for seed in range(400)
        for sampling in ('balanced', 'random')
    ]
    frequency = np.bincount(np.concatenate(drawn), minlength=10) / len(drawn)
    assert np.abs(frequency - 0.3).max() < 0.06


def test_unique_pairs():
    images, labels = unique_pairs(
        np.array([7, 2, 7, 7, 2]), np.array([0, 9, 0, 4, 1])
    )
    assert images.tolist() == [2, 2, 7, 7]
    assert labels.tolist() == [1, 9, 0, 4]
    empty = np.array([], int)
    assert [len(array) for array in unique_pairs(empty, empty)] == [0, 0]


@pytest.mark.parametrize('seed', range(5))
def test_the_neediest_class_is_always_served_first(pairs, seed):
    """Against the rule itself, asked anew for each image."""
    images, labels = pairs
    rank = np.random.RandomState(seed).permutation(200)
    queues = [
        sorted(images[labels == k], key=lambda i: rank[(i - 1000) // 2])
        for k in range(5)
    ]
    taken, counts = set(), np.zeros(5)
    while len(taken) < 60:
        needy = counts.argmin()
        left = [image for image in queues[needy] if image not in taken]
        if not left:
            counts[needy] = np.inf
            continue
        taken.add(left[0])
        counts[labels[images == left[0]]] += 1
    found = select_images(*pairs, share=0.3, seed=seed)
    assert found.tolist() == sorted(taken)
