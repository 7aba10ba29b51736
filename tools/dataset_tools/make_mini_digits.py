"""Make the ``mini_digits`` data set of the mini configs.

python tools/dataset_tools/make_mini_digits.py --root data/mini_digits
"""

from gslora_mm.toy_data import MiniDigits
from gslora_mm.toy_data.command_line import make_from_command_line
from gslora_mm.utils.command_line import end_in_one_line


def main() -> None:
    make_from_command_line(
        MiniDigits,
        'Pictures of real handwritten digits in class folders, made in '
        'seconds. Does nothing where the data set is already complete.',
        'the pictures of digits are ready',
    )


if __name__ == '__main__':
    end_in_one_line()
    main()
