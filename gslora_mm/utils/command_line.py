"""What the command lines of all tools share; importing it takes no time."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator

from .garbage import nothing_is_garbage
from .quiet import hush, no_prints


class DictAction(argparse.Action):
    """MMEngine's, imported where there are settings: it brings torch."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from mmengine.config import DictAction as Real

        real = Real(self.option_strings, self.dest)
        real(parser, namespace, values, option_string)


def resumed() -> str:
    """The call of this process with ``--resume``."""
    resume = ['--resume'] * ('--resume' not in sys.argv)
    return shlex.join(['python', *sys.argv, *resume])


def end_in_one_line(interrupted: str = 'start it again') -> None:
    """Let Ctrl-C end this process without a traceback from now on.

    Args:
        interrupted (str): What to do then. Defaults to
            ``'start it again'``.
    """

    def hook(kind, error, traceback) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(f'interrupted; {interrupted}', file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook


@contextlib.contextmanager
def imports(
    name: str,
    parse_args: Callable[[], object],
    interrupted: str = 'start it again',
) -> Iterator[None]:
    """Import in here what a tool needs: the stack takes its seconds.

    Called as a script, the tool first answers ``--help`` and mistakes in its
    command line, and from then on ends with one line when it is interrupted.

    Args:
        name (str): ``__name__`` of the tool.
        parse_args (Callable[[], object]): Reads its command line.
        interrupted (str): See :func:`end_in_one_line`.
    """
    hush()
    if name == '__main__':
        end_in_one_line(interrupted)
        parse_args()
    with no_prints(), nothing_is_garbage():
        yield
