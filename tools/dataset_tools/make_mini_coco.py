"""Make the ``mini_coco`` data set of the demo and the mini configs.

python tools/dataset_tools/make_mini_coco.py --root data/mini_coco
"""

from gslora_mm.toy_data import MiniCoco
from gslora_mm.toy_data.command_line import make_from_command_line
from gslora_mm.utils.command_line import end_in_one_line


def main() -> None:
    make_from_command_line(
        MiniCoco,
        'COCO-format scenes of real handwritten digits, made in seconds. Does '
        'nothing where the data set is already complete.',
        '{num_train} training, {num_val} validation, {num_tune} tuning and '
        '{num_test} test scenes are ready',
    )


if __name__ == '__main__':
    end_in_one_line()
    main()
