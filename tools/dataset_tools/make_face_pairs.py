"""List pairs of images for face verification.

    python tools/dataset_tools/make_face_pairs.py --root data/casia100/val \
        --out data/casia100/pairs.txt

The folder has one folder an identity. A line of the list holds two paths,
relative to the folder, and 1 for one identity or 0 for two. The same folder
and arguments give the same list.
"""

import argparse

from gslora_mm.utils import ConfigError, SaveError, config_path
from gslora_mm.utils.command_line import end_in_one_line
from gslora_mm.utils.face_pairs import face_pairs, list_images, save_pairs


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='List pairs of images for face verification.'
    )
    parser.add_argument('--root', required=True, help='folder of the images')
    parser.add_argument('--out', required=True, help='list to write')
    parser.add_argument(
        '--same', type=int, default=20, help='pairs of each identity'
    )
    parser.add_argument(
        '--different',
        type=int,
        default=1,
        help='pairs of every two identities',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the choice of pairs'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        for name in ('same', 'different'):
            number = getattr(args, name)
            if number < 1:
                raise ConfigError(f'--{name}', number, 'must be at least 1')
        with config_path(renamed={'root': '--root'}):
            images = list_images(args.root)
        pairs = face_pairs(images, args.same, args.different, args.seed)
        save_pairs(pairs, args.out)
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from error
    print(
        f'{args.out}: {sum(same for _, _, same in pairs)} pairs of one and '
        f'{sum(not same for _, _, same in pairs)} of two of {len(images)} '
        'identities'
    )


if __name__ == '__main__':
    end_in_one_line()
    main()
