"""Markdown tables that read well as plain text."""

from collections.abc import Collection, Iterable, Sequence


def markdown_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: int | Collection[int] = 1,
) -> str:
    """A Markdown table, padded so that it is a table as plain text too.

    Args:
        header (Sequence[str]): Titles of the columns.
        rows (Iterable[Sequence[str]]): Cells of each row.
        left (int | Collection[int]): How many of the first columns are
            aligned to the left, as names are, or which ones; the others,
            numbers, go to the right. Defaults to 1.

    Returns:
        str: The table, without a newline at its end.
    """
    if isinstance(left, int):
        left = range(left)
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        '| '
        + ' | '.join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        )
        + ' |'
        for row in cells
    ]
    rule = [
        '-' * (width + 2) if place in left else '-' * (width + 1) + ':'
        for place, width in enumerate(widths)
    ]
    lines.insert(1, f'|{"|".join(rule)}|')
    return '\n'.join(lines)
