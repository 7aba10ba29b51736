"""Make the ``mini_digits`` data set of the mini configs.

python tools/dataset_tools/make_mini_digits.py --root data/mini_digits
"""

import argparse

from gslora_mm.toy_data.mini_digits import make_mini_digits
from gslora_mm.utils.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Pictures of real handwritten digits in class folders, '
        'made in seconds. Does nothing where the data set is already complete.'
    )
    parser.add_argument(
        '--root',
        default='data/mini_digits',
        help='folder to make (default: %(default)s)',
    )
    parser.add_argument(
        '--train-copies',
        type=int,
        default=4,
        help='pictures of a training scan (default: %(default)s)',
    )
    parser.add_argument(
        '--val-copies',
        type=int,
        default=2,
        help='pictures of a validation scan (default: %(default)s)',
    )
    parser.add_argument(
        '--tune-copies',
        type=int,
        default=1,
        help='pictures of a training scan to choose settings on '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--test-copies',
        type=int,
        default=2,
        help='pictures of a validation scan to compare methods on '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--max-scans',
        type=int,
        default=None,
        help='most scans of a class and split (default: all)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the pictures (default: %(default)s)',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=32,
        help='height and width in px (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    settings = vars(parse_args())
    try:
        root = make_mini_digits(**settings)
    except (ConfigError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    print(f'{root}: the pictures of digits are ready')


if __name__ == '__main__':
    main()
