"""Put Fashion-MNIST where the mini configs read it.

    python tools/dataset_tools/prepare_fashion_mnist.py

The photographs come from the package dataset-fashion-mnist of Debian and
Ubuntu, if it is installed, and else from the address that mmpretrain knows.
They are by Zalando SE, under the MIT licence (arXiv 1708.07747).
"""

import argparse
import gzip
import shutil
from pathlib import Path

from gslora_mm.utils import ConfigError, atomic_write
from gslora_mm.utils.command_line import end_in_one_line
from gslora_mm.utils.quiet import hush, no_prints

#: Where the Debian package puts its files.
PACKAGE = '/usr/share/datasets/fashion-mnist'


def prepare(root: str | Path, source: str | Path = PACKAGE) -> str:
    """Unpack the four files of the data set, those that are not there yet.

    Args:
        root (str | Path): Folder that mmpretrain's ``FashionMNIST`` reads.
        source (str | Path): Folder that has the packed files. If it has not,
            they are downloaded.

    Returns:
        str: Where the files came from.

    Raises:
        ConfigError: If they can be had from nowhere, or are damaged.
    """
    from mmpretrain.datasets import FashionMNIST

    root, source = Path(root), Path(source)
    names = [
        name for name, _ in FashionMNIST.train_list + FashionMNIST.test_list
    ]
    unpacked = [root / name.removesuffix('.gz') for name in names]
    if all(path.is_file() for path in unpacked):
        return 'ready'
    if not all((source / name).is_file() for name in names):
        try:
            FashionMNIST(data_root=str(root), lazy_init=True)._download()
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                '--source',
                str(source),
                'has no Fashion-MNIST, and it cannot be downloaded from '
                f'{FashionMNIST.url_prefix} ({error}). Install the package '
                'dataset-fashion-mnist (Debian, Ubuntu), or name the folder '
                f'that has {", ".join(names)}',
            ) from error
        return f'downloaded from {FashionMNIST.url_prefix}'
    for name, path in zip(names, unpacked, strict=True):
        try:
            with gzip.open(source / name) as packed, atomic_write(path) as out:
                shutil.copyfileobj(packed, out)
        except (EOFError, gzip.BadGzipFile) as error:
            raise ConfigError(
                '--source', str(source / name), f'is damaged: {error}'
            ) from error
    return f'unpacked from {source}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--root',
        default='data/fashion_mnist',
        help='folder to make (default: %(default)s)',
    )
    parser.add_argument(
        '--source',
        default=PACKAGE,
        help='folder of the packed files (default: %(default)s)',
    )
    args = parser.parse_args()
    hush()
    try:
        with no_prints():
            how = prepare(args.root, args.source)
    except (ConfigError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    print(f'{args.root}: the photographs of clothing are {how}')


if __name__ == '__main__':
    end_in_one_line()
    main()
