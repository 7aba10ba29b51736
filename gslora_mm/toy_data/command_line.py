"""The command line that the makers of the toy data sets share."""

from __future__ import annotations

import argparse
import dataclasses

from gslora_mm.utils.errors import ConfigError
from .toy_dataset import ToyDataset


def make_from_command_line(
    dataset: type[ToyDataset], description: str, ready: str
) -> None:
    """Make a data set with the settings of the command line.

    There is a flag for the folder and one for each setting, with its name,
    its default and its help.

    Args:
        dataset (type[ToyDataset]): The data set.
        description (str): What the command does.
        ready (str): What it prints in the end after the folder, with the
            settings in braces.

    Raises:
        SystemExit: With a message, if a setting is out of range or the
            folder cannot be used.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        '--root',
        default=f'data/{dataset.name}',
        help='folder to make (default: %(default)s)',
    )
    for item in dataclasses.fields(dataset):
        default = 'all' if item.default is None else item.default
        parser.add_argument(
            '--' + item.name.replace('_', '-'),
            type=int,
            default=item.default,
            help=f'{item.metadata["help"]} (default: {default})',
        )
    settings = vars(parser.parse_args())
    root = settings.pop('root')
    try:
        root = dataset(**settings).make(root)
    except (ConfigError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    print(f'{root}: {ready.format_map(settings)}')
