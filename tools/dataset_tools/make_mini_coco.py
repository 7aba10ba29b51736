"""Make the ``mini_coco`` data set of the demo and the mini configs.

python tools/dataset_tools/make_mini_coco.py --root data/mini_coco
"""

import argparse

from gslora_mm.toy_data.mini_coco import make_mini_coco
from gslora_mm.utils.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='COCO-format scenes of real handwritten digits, made in '
        'seconds. Does nothing where the data set is already complete.'
    )
    parser.add_argument(
        '--root',
        default='data/mini_coco',
        help='folder to make (default: %(default)s)',
    )
    parser.add_argument(
        '--num-train',
        type=int,
        default=1500,
        help='training scenes (default: %(default)s)',
    )
    parser.add_argument(
        '--num-val',
        type=int,
        default=250,
        help='validation scenes (default: %(default)s)',
    )
    parser.add_argument(
        '--num-tune',
        type=int,
        default=150,
        help='scenes to choose settings on (default: %(default)s)',
    )
    parser.add_argument(
        '--num-test',
        type=int,
        default=250,
        help='scenes to compare methods on (default: %(default)s)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the scenes (default: %(default)s)',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=96,
        help='height and width in px (default: %(default)s)',
    )
    parser.add_argument(
        '--max-digits',
        type=int,
        default=4,
        help='most digits in a scene (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    settings = vars(parse_args())
    try:
        root = make_mini_coco(**settings)
    except (ConfigError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    print(
        f'{root}: {settings["num_train"]} training, '
        f'{settings["num_val"]} validation, {settings["num_tune"]} tuning '
        f'and {settings["num_test"]} test scenes are ready'
    )


if __name__ == '__main__':
    main()
