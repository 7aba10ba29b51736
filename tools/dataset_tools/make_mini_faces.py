"""Make the ``mini_faces`` data set of the mini configs.

python tools/dataset_tools/make_mini_faces.py --root data/mini_faces
"""

import argparse

from gslora_mm.toy_data.mini_faces import make_mini_faces
from gslora_mm.utils.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Drawn portraits in folders of identities, made in '
        'seconds. Does nothing where the data set is already complete.'
    )
    parser.add_argument(
        '--root',
        default='data/mini_faces',
        help='folder to make (default: %(default)s)',
    )
    parser.add_argument(
        '--num-ids',
        type=int,
        default=100,
        help='identities (default: %(default)s)',
    )
    parser.add_argument(
        '--num-train',
        type=int,
        default=60,
        help='training pictures of each (default: %(default)s)',
    )
    parser.add_argument(
        '--num-val',
        type=int,
        default=10,
        help='validation pictures of each (default: %(default)s)',
    )
    parser.add_argument(
        '--num-tune',
        type=int,
        default=10,
        help='pictures of each to choose settings on (default: %(default)s)',
    )
    parser.add_argument(
        '--num-test',
        type=int,
        default=20,
        help='pictures of each to compare methods on (default: %(default)s)',
    )
    parser.add_argument(
        '--num-pairs',
        type=int,
        default=20,
        help='pairs for verification of each (default: %(default)s)',
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
        root = make_mini_faces(**settings)
    except (ConfigError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    print(
        f'{root}: {settings["num_train"]} training, '
        f'{settings["num_val"]} validation, {settings["num_tune"]} tuning '
        f'and {settings["num_test"]} test pictures of '
        f'{settings["num_ids"]} identities are ready'
    )


if __name__ == '__main__':
    main()
