"""Make the report of a sequence again, from the files of its work dir."""

import argparse

from gslora_mm.utils import ConfigError
from gslora_mm.utils.command_line import imports


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work dir of a sequence')
    parser.add_argument(
        '--no-pictures',
        action='store_true',
        help='leave out the before-and-after pictures, for which the '
        'models are run on a few validation images',
    )
    return parser.parse_args()


with imports(__name__, parse_args):
    from gslora_mm.reports import write_report
    from gslora_mm.work_dir import WorkDir


def main() -> None:
    """Write the report and its figures; say where they are."""
    args = parse_args()
    try:
        write_report(args.work_dir, pictures=not args.no_pictures)
    except ConfigError as error:
        raise SystemExit(f'error: {error}') from None
    run = WorkDir(args.work_dir)
    pages = [run.report_text, run.report_page]
    names = ' and '.join(str(page) for page in pages if page.exists())
    print(f'Report written to {names}')


if __name__ == '__main__':
    main()
