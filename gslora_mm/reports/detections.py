"""What a sequence's detectors see on the same few validation images."""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from gslora_mm.utils.checkpoint import (
    load_checkpoint,
    load_state_dict_strictly,
    state_dict_of,
)


@dataclass(frozen=True)
class Boxes:
    """Objects of one image.

    Attributes:
        corners (np.ndarray): Shape (n, 4), (x1, y1, x2, y2) in pixels.
        names (list[str]): Category of each.
        scores (list[float], optional): Confidence of each, in [0, 1]; None
            for ground truth.
    """

    corners: np.ndarray
    names: list[str]
    scores: list[float] | None = None


def ground_truth(
    config: Config, classes: Sequence[str]
) -> list[tuple[str, Boxes]]:
    """Path and objects of all validation images; crowds are left out.

    Args:
        config (Config): A stock mmdet config with a ``val_dataloader``.
        classes (Sequence[str]): Category names in the order of the labels.

    Returns:
        list: Pairs (path of the image, its objects), in the data's order.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        dataset = DATASETS.build(copy.deepcopy(config.val_dataloader.dataset))
    images = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        objects = [i for i in info['instances'] if not i.get('ignore_flag')]
        boxes = Boxes(
            np.array([i['bbox'] for i in objects], float).reshape(-1, 4),
            [classes[i['bbox_label']] for i in objects],
        )
        images.append((info['img_path'], boxes))
    return images


def detect(
    config: Config,
    checkpoints: Mapping[str, tuple[str, bool]],
    classes: Sequence[str],
    paths: Sequence[str],
    threshold: float,
    device: str,
) -> Iterator[tuple[str, list[Boxes]]]:
    """Run one stock mmdet detector with several checkpoints.

    Args:
        config (Config): The stock config.
        checkpoints (Mapping): By title the checkpoint (path or URL) and
            whether it may be unpickled without restriction.
        classes (Sequence[str]): Category names in the order of the labels.
        paths (Sequence[str]): Image files.
        threshold (float): Least score of a detection to keep.
        device (str): Where to run, e.g. 'cpu'.

    Yields:
        tuple[str, list[Boxes]]: Title and the detections of each image, best
        first.

    Raises:
        ConfigError: If a checkpoint is missing, damaged or does not fit.
    """
    model = _build(config, device)
    for title, (checkpoint, allow_pickle) in checkpoints.items():
        state_dict = state_dict_of(load_checkpoint(checkpoint, allow_pickle))
        load_state_dict_strictly(model, state_dict)
        found = []
        for sample in inference_detector(model, list(paths)):
            instances = sample.pred_instances.cpu().numpy()
            kept = np.flatnonzero(instances.scores >= threshold)
            kept = kept[np.argsort(-instances.scores[kept], kind='stable')]
            found.append(
                Boxes(
                    instances.bboxes[kept].astype(float),
                    [classes[label] for label in instances.labels[kept]],
                    instances.scores[kept].astype(float).tolist(),
                )
            )
        yield title, found


def _build(config: Config, device: str) -> nn.Module:
    """The detector without weights; :func:`detect` loads them safely."""
    # mmdet warns of the checkpoint it was not given, and sets the filter that
    # shows it: only recording keeps it off the console.
    with warnings.catch_warnings(record=True):
        return init_detector(
            copy.deepcopy(config), None, palette='random', device=device
        )
