"""Figures as they would be saved, and pictures that cannot be drawn."""

import pytest

from gslora_mm.reports import write_report
from gslora_mm.reports.pictures import draw_pictures
from gslora_mm.utils import ConfigError


def keep_figures(monkeypatch, *modules):
    """Let modules save no figure.

    Args:
        monkeypatch: Of pytest.
        *modules: With ``save_figure``.

    Returns:
        list: Gets the figures that would be saved, drawn once.
    """
    figures = []

    def keep(figure, path):
        figure.draw_without_rendering()
        figures.append(figure)

    for module in modules:
        monkeypatch.setattr(module, 'save_figure', keep)
    return figures


def check_moved_checkpoint(work_dir, folder):
    """Pictures without it are an error, a report just has none.

    Args:
        work_dir: Of a sequence with two finished steps.
        folder: Where to move the checkpoint of the second one for a while.
    """
    report = write_report(work_dir, pictures=False)
    merged = work_dir / 'step_02' / 'merged.pth'
    merged.rename(folder / 'merged.pth')
    try:
        with pytest.raises(ConfigError, match=r'step_02.merged\.pth'):
            draw_pictures(work_dir, report, folder / 'out.png')
        assert not (folder / 'out.png').exists()
        write_report(work_dir)
        # What lies there still is to be deleted, but it is not shown.
        assert (
            '](report/pictures.png)'
            not in (work_dir / 'report.md').read_text()
        )
    finally:
        (folder / 'merged.pth').rename(merged)
