"""Replay buffers: the few images of a set that a step may use."""

import heapq
import math
from typing import Literal

import numpy as np

Sampling = Literal['balanced', 'random']


def select_images(
    images: np.ndarray,
    labels: np.ndarray,
    share: float | None = None,
    shots: int | None = None,
    sampling: Sampling = 'balanced',
    seed: int = 0,
) -> np.ndarray:
    """Draw the images of a replay buffer.

    The set is given as pairs: image ``images[k]`` shows class ``labels[k]``.
    The result depends on the pairs and the seed alone, and no global
    generator is touched.

    * ``'random'`` is the papers' way. A share is drawn uniformly from the
      images. For ``shots``, each class draws its own images, whatever the
      others have drawn, and the union is taken: a class that appears beside
      others ends up with many more.
    * ``'balanced'`` always gives the next image to the class that has the
      fewest so far and counts it for all the classes that it shows. So the
      counts come as close to each other as the images allow, and ``shots``
      is reached with fewer images.

    Args:
        images (np.ndarray): Image indices of the pairs, shape (num_pairs,).
        labels (np.ndarray): Labels of the pairs, shape (num_pairs,).
        share (float, optional): Share of the images to draw, in (0, 1];
            at least one image is drawn.
        shots (int, optional): Images per class to draw, at most as many as
            the class has. Without ``share`` and ``shots`` all are taken.
        sampling (str): ``'balanced'`` or ``'random'``.
            Defaults to ``'balanced'``.
        seed (int): Seed of the draw. Defaults to 0.

    Returns:
        np.ndarray: Image indices, ascending and unique.
    """
    images, labels = unique_pairs(images, labels)
    candidates = np.unique(images)
    if share is None and shots is None:
        return candidates
    size = len(candidates)
    if share is not None:
        size = max(1, round(share * size))
    rng = np.random.RandomState(seed)
    if sampling == 'balanced':
        return _balanced(images, labels, size, shots, rng)
    if shots is None:
        return np.sort(rng.choice(candidates, size, replace=False))
    by_class = np.argsort(labels, kind='stable')
    starts = np.flatnonzero(np.diff(labels[by_class])) + 1
    return np.unique(
        [
            rng.choice(own, shots, replace=False)
            for own in np.split(images[by_class], starts)
        ]
    )


def unique_pairs(
    images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sort pairs by image, then label, and keep one of each.

    Args:
        images (np.ndarray): Image indices, shape (num_pairs,).
        labels (np.ndarray): Labels, shape (num_pairs,).

    Returns:
        tuple[np.ndarray, np.ndarray]: The same for the unique pairs.
    """
    base = labels.max(initial=0) + 1
    return np.divmod(np.unique(images * base + labels), base)


def _balanced(
    images: np.ndarray,
    labels: np.ndarray,
    size: int,
    shots: int | None,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Serve the class with the fewest images until size or shots is met."""
    _, images_of_pairs = np.unique(images, return_inverse=True)
    classes, classes_of_pairs = np.unique(labels, return_inverse=True)
    candidates = np.unique(images)

    # One queue of images per class, all in the same random order.
    rank = rng.permutation(len(candidates))
    by_class = np.lexsort((rank[images_of_pairs], classes_of_pairs))
    starts = np.searchsorted(
        classes_of_pairs[by_class], np.arange(1, len(classes))
    )
    queues = [
        iter(queue.tolist())
        for queue in np.split(images_of_pairs[by_class], starts)
    ]
    # Pairs come sorted by image: where the classes that each shows begin.
    begins = np.searchsorted(
        images_of_pairs, np.arange(len(candidates) + 1)
    ).tolist()
    shown = classes_of_pairs.tolist()

    taken = np.zeros(len(candidates), bool)
    drawn = 0
    target = math.inf if shots is None else shots
    counts = [0] * len(classes)
    # The neediest class first, of several the one with the lowest label. A
    # count that has grown since it was put here is put here anew.
    needy = [(0, label) for label in range(len(classes))]
    while drawn < size and needy:
        count, label = needy[0]
        if count < counts[label]:
            heapq.heapreplace(needy, (counts[label], label))
            continue
        if count >= target:
            break
        image = next((i for i in queues[label] if not taken[i]), None)
        if image is None:
            heapq.heappop(needy)
            continue
        taken[image] = True
        drawn += 1
        for each in shown[begins[image] : begins[image + 1]]:
            counts[each] += 1
    return candidates[taken]
