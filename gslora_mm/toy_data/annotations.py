"""COCO annotations of any size, to measure with: no pictures are drawn."""

import numpy as np

#: Width and height of every image in pixels.
IMAGE_SIZE = (640, 480)


def make_annotations(
    num_images: int, num_boxes: int, num_classes: int, seed: int = 0
) -> dict:
    """Draw annotations as COCO and LVIS have them: few classes are common.

    The boxes show every class at least once, where there are that many, and
    every image has one. How often a class is shown falls with its number.

    Args:
        num_images (int): Images, of :data:`IMAGE_SIZE`.
        num_boxes (int): Boxes of all images, of 8 pixels or more a side.
        num_classes (int): Classes, called ``class_00000``, ...
        seed (int): Of the draw. Defaults to 0.

    Returns:
        dict: Content of a COCO file. ``file_name`` is ``0.jpg`` and so on.
    """
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, 1 + num_classes) ** 0.7
    labels = rng.choice(num_classes, num_boxes, p=chances / chances.sum())
    labels[:num_classes] = np.arange(num_classes)[:num_boxes]
    images = rng.integers(num_images, size=num_boxes)
    every = rng.permutation(num_images)[:num_boxes]
    images[len(images) - len(every) :] = every
    corners = rng.uniform(0, 0.8, (num_boxes, 2)) * IMAGE_SIZE
    sides = rng.uniform(8, 96, (num_boxes, 2))
    boxes = np.hstack([corners, sides]).round(2)
    order = rng.permutation(num_boxes)  # classes stand where they come
    return dict(
        images=[
            dict(
                id=number,
                file_name=f'{number}.jpg',
                width=IMAGE_SIZE[0],
                height=IMAGE_SIZE[1],
            )
            for number in range(num_images)
        ],
        annotations=[
            dict(
                id=number,
                image_id=image,
                category_id=label,
                bbox=box,
                area=area,
                iscrowd=0,
            )
            for number, (image, label, box, area) in enumerate(
                zip(
                    images[order].tolist(),
                    (labels[order] + 1).tolist(),
                    boxes[order].tolist(),
                    boxes[order, 2:].prod(1).round(2).tolist(),
                    strict=True,
                ),
                1,
            )
        ],
        categories=[
            dict(id=number, name=name)
            for number, name in enumerate(class_names(num_classes), 1)
        ],
    )


def class_names(num_classes: int) -> list[str]:
    """Names of the classes, in the order of their labels."""
    return [f'class_{number:05d}' for number in range(num_classes)]
