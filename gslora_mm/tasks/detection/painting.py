"""Images with objects painted over."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

#: Pixels that a box is enlarged by, so that no outline is left.
MARGIN = 2
#: Longer images are painted at this size; a hole has no details anyway.
LONGEST_SIDE = 256


def painted_over(
    inputs: Tensor, boxes: Sequence[Tensor], spared: Sequence[Tensor]
) -> Tensor:
    """Fill boxes from what is around them.

    By the fast marching method (Telea, 2004) of OpenCV. Only the holes
    change.

    Args:
        inputs (Tensor): Preprocessed images, shape (n, C, H, W).
        boxes (Sequence[Tensor]): For each image (x1, y1, x2, y2) in pixels,
            shape (objects, 4).
        spared (Sequence[Tensor]): For each image boxes that no hole reaches
            into, of the same form.

    Returns:
        Tensor: Of the same shape, on the same device.
    """
    return torch.stack(
        [
            _fill(image, *each) if len(each[0]) else image
            for image, *each in zip(inputs, boxes, spared, strict=True)
        ]
    )


def _fill(image: Tensor, boxes: Tensor, spared: Tensor) -> Tensor:
    channels, height, width = image.shape
    hole = np.zeros((height, width), np.uint8)
    for those, margin, value in ((boxes, MARGIN, 255), (spared, 0, 0)):
        for left, top, right, bottom in those.tolist():
            rows = slice(
                max(int(top) - margin, 0), int(np.ceil(bottom)) + margin
            )
            columns = slice(
                max(int(left) - margin, 0), int(np.ceil(right)) + margin
            )
            hole[rows, columns] = value
    if not hole.any() or hole.all():
        return image
    pixels = image.detach().float().cpu().numpy().transpose(1, 2, 0)
    low, high = pixels.min(), pixels.max()
    levels = np.uint8(255 * (pixels - low) / max(high - low, 1e-12))
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(int(scale * width), 1), max(int(scale * height), 1)
    small = cv2.resize(levels, size, interpolation=cv2.INTER_AREA)
    small = small.reshape(size[1], size[0], channels)
    small_hole = cv2.resize(hole, size, interpolation=cv2.INTER_NEAREST)
    # It takes one channel or three.
    filled = np.stack(
        [
            cv2.inpaint(
                np.ascontiguousarray(small[..., channel]),
                small_hole,
                3,
                cv2.INPAINT_TELEA,
            )
            for channel in range(channels)
        ],
        2,
    )
    filled = cv2.resize(filled, (width, height)).reshape(pixels.shape)
    filled = low + filled.astype(np.float32) * (high - low) / 255
    painted = np.where(hole[..., None] > 0, filled, pixels)
    return torch.from_numpy(painted.transpose(2, 0, 1).copy()).to(image)
