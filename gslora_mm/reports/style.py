"""One look for all figures, and files that repeat bit for bit."""

import contextlib
import os
from collections.abc import Iterator

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

from gslora_mm.utils import atomic_write

# Okabe and Ito's palette: told apart with every kind of colour blindness.
COLOURS = dict(
    forget='#D55E00',
    retain='#0072B2',
    old='#CC79A7',
    missing='#009E73',
    learned='#E69F00',
    h_mean='#222222',
)
GREY = '#767676'
_RC = {
    'font.family': 'DejaVu Sans',  # comes with matplotlib
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'grid.color': '#E4E4E4',
    'legend.frameon': False,
    'hatch.linewidth': 0.6,
    'savefig.dpi': 130,
}


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's defaults and this project's, whatever the user's are."""
    with matplotlib.style.context('default'), matplotlib.rc_context(_RC):
        yield


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG, atomically.

    Neither date nor version of the software goes into the file, so the same
    figure gives the same bytes. To be called within :func:`figure_style`.

    Args:
        figure (Figure): The figure.
        path (str | os.PathLike): The file to write.

    Raises:
        SaveError: If it cannot be written.
    """
    with atomic_write(path) as file:
        figure.savefig(file, format='png', metadata={'Software': None})
