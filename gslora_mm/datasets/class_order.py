"""The order in which classes are forgotten. Imports nothing heavy."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from gslora_mm.utils.errors import ConfigError, unknown_name

Item = TypeVar('Item')
Scheme = Literal['numpy', 'python']


def class_order(
    items: Sequence[Item], seed: int = 123, scheme: Scheme = 'numpy'
) -> list[Item]:
    """Shuffle classes the way the papers do.

    Neither scheme touches the global state of its generator.

    Args:
        items (Sequence): Classes in the order of their labels.
        seed (int): Seed of the shuffle. The papers use 123 with ``'numpy'``
            for COCO and 1337 with ``'python'`` for CASIA-100 and
            ImageNet-100. Defaults to 123.
        scheme (str): ``'numpy'`` for NumPy's legacy generator
            (``RandomState``), ``'python'`` for that of :mod:`random`.
            Defaults to ``'numpy'``.

    Returns:
        list: The same items in another order.

    Raises:
        ConfigError: The scheme is unknown.
    """
    order = list(items)
    if scheme == 'numpy':
        np.random.RandomState(seed).shuffle(order)
    elif scheme == 'python':
        random.Random(seed).shuffle(order)
    else:
        raise unknown_name('scheme', scheme, ('numpy', 'python'))
    return order


@dataclass(frozen=True)
class ClassOrder:
    """Steps of a forgetting sequence, drawn from a shuffled class order.

    Forgetting starts at the end of the order: the last ``classes_per_step``
    positions are forgotten in step 1, those before them in step 2, and so
    on. With the defaults and COCO's 80 classes these are the papers' 7 steps.

    Args:
        scheme (str): See :func:`class_order`. Defaults to ``'numpy'``.
        seed (int): See :func:`class_order`. Defaults to 123.
        num_steps (int): Number of steps. Defaults to 7.
        classes_per_step (int): Number of classes forgotten in each.
            Defaults to 10.
    """

    scheme: Scheme = 'numpy'
    seed: int = 123
    num_steps: int = 7
    classes_per_step: int = 10

    def steps(self, classes: Sequence[str]) -> list[list[str]]:
        """Divide classes among the steps.

        Args:
            classes (Sequence[str]): All classes in the order of their labels.

        Returns:
            list[list[str]]: The classes to forget, step by step.

        Raises:
            ConfigError: No step, an empty step, or no class left to retain.
                Its path is an argument of this class.
        """
        for name in ('num_steps', 'classes_per_step'):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(name, value, 'must be at least 1')
        forgotten = self.num_steps * self.classes_per_step
        if forgotten >= len(classes):
            raise ConfigError(
                'num_steps',
                self.num_steps,
                f'times classes_per_step = {self.classes_per_step} forgets '
                f'{forgotten} of {len(classes)} classes; at least one must '
                'be retained',
            )
        order = class_order(classes, self.seed, self.scheme)
        size = self.classes_per_step
        ends = range(len(order), len(order) - forgotten, -size)
        return [order[end - size : end] for end in ends]
