"""Texts from Jinja2 templates."""

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jinja2

from gslora_mm.utils.tables import markdown_table
from gslora_mm.utils.text import percent


class Table(NamedTuple):
    """Cells of a table, whatever it will be written as.

    Attributes:
        header (list[str]): Titles of the columns.
        rows (list[list[str]]): Cells of each row.
        left (int): How many of the first columns hold names, which are
            aligned to the left.
    """

    header: list[str]
    rows: list[list[str]]
    left: int


def render_template(
    package: str,
    name: str,
    context: Mapping,
    filters: Mapping[str, Callable] | None = None,
) -> str:
    """Fill in a template of a package's folder ``templates``.

    In a template of HTML, named ``*.html.j2``, whatever is filled in is
    escaped.

    Templates may use the filters ``markdown`` (of a :class:`Table`),
    ``percent`` and ``fill`` (lines of at most 79 characters, with
    ``indent`` blanks before all but the first, and broken at hyphens
    unless ``hyphens`` is false).

    Args:
        package (str): Such as ``'gslora_mm.reports'``.
        name (str): File name of the template.
        context (Mapping): What the template refers to; all of it must be
            there.
        filters (Mapping[str, Callable], optional): More filters.

    Returns:
        str: The text.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        undefined=jinja2.StrictUndefined,
        autoescape=name.endswith('.html.j2'),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        markdown=lambda table: markdown_table(*table),
        percent=percent,
        fill=_fill,
        **(filters or {}),
    )
    return environment.get_template(name).render(context)


def _fill(text: str, indent: int = 0, hyphens: bool = True) -> str:
    """Lines of at most 79 characters, broken at hyphens too or not."""
    return textwrap.fill(
        # How the template is broken into lines does not matter.
        re.sub(r'\s*\n\s*', ' ', text.strip()),
        79,
        subsequent_indent=' ' * indent,
        break_on_hyphens=hyphens,
    )
