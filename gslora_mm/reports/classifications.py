"""What a sequence's classifiers say of the same few validation images."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import init_default_scope

from gslora_mm.registry import DATASETS, MODELS
from gslora_mm.utils.checkpoint import (
    load_checkpoint,
    load_state_dict_strictly,
    state_dict_of,
)
from gslora_mm.utils.quiet import no_prints


@dataclass(frozen=True)
class Ranking:
    """The likeliest classes of one image, best first.

    Attributes:
        names (list[str]): The classes.
        scores (list[float]): Probability of each, in [0, 1].
    """

    names: list[str]
    scores: list[float]


def validation_set(config: Config) -> BaseDataset:
    """The data set of a stock mmpretrain config's ``val_dataloader``."""
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    with no_prints():
        dataset = DATASETS.build(copy.deepcopy(config.val_dataloader.dataset))
        dataset.full_init()
    return dataset


def read_image(dataset: BaseDataset, index: int) -> np.ndarray:
    """An image as it was before the pipeline.

    Args:
        dataset (BaseDataset): Of files, or of arrays such as CIFAR.
        index (int): Which image.

    Returns:
        np.ndarray: RGB, shape (height, width, 3).

    Raises:
        FileNotFoundError: If its file is gone.
    """
    info = dataset.get_data_info(index)
    if 'img_path' in info:
        return mmcv.imread(info['img_path'], channel_order='rgb')
    image = np.asarray(info['img'])
    image = image.reshape(*image.shape[:2], -1)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def classify(
    config: Config,
    checkpoints: Mapping[str, tuple[str, bool]],
    classes: Sequence[str],
    dataset: BaseDataset,
    indices: Sequence[int],
    count: int,
    device: str,
) -> Iterator[tuple[str, list[Ranking]]]:
    """Run one stock mmpretrain classifier with several checkpoints.

    Args:
        config (Config): The stock config.
        checkpoints (Mapping): By title the checkpoint (path or URL) and
            whether it may be unpickled without restriction.
        classes (Sequence[str]): Class names in the order of the labels.
        dataset (BaseDataset): Of :func:`validation_set`.
        indices (Sequence[int]): Images of it.
        count (int): How many classes to name for each image.
        device (str): Where to run, e.g. 'cpu'.

    Yields:
        tuple[str, list[Ranking]]: Title and the ranking of each image.

    Raises:
        ConfigError: If a checkpoint is missing, damaged or does not fit.
        FileNotFoundError: If an image is gone.
    """
    stock = copy.deepcopy(config._cfg_dict.to_dict())
    if stock.get('data_preprocessor'):
        stock['model'].setdefault(
            'data_preprocessor', stock['data_preprocessor']
        )
    # Of training alone, and announced on the console.
    stock['model'].pop('train_cfg', None)
    model = MODELS.build(stock['model']).to(device)
    model.eval()  # returns None for some
    batch = pseudo_collate([dataset[index] for index in indices])
    for title, (checkpoint, allow_pickle) in checkpoints.items():
        state_dict = state_dict_of(load_checkpoint(checkpoint, allow_pickle))
        load_state_dict_strictly(model, state_dict)
        rankings = []
        with torch.no_grad():
            samples = model.test_step(copy.deepcopy(batch))
        for sample in samples:
            scores = sample.pred_score.cpu().double().numpy()
            best = np.argsort(-scores, kind='stable')[:count]
            rankings.append(
                Ranking([classes[i] for i in best], scores[best].tolist())
            )
        yield title, rankings
