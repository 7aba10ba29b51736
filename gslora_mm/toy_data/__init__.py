"""The embedded data sets, drawn on the fly, and what draws them."""

from .mini_coco import MINI_COCO_CLASSES, MiniCoco, make_mini_coco
from .mini_digits import MINI_DIGITS_CLASSES, MiniDigits, make_mini_digits
from .mini_faces import MINI_FACES_CLASSES, MiniFaces, make_mini_faces
