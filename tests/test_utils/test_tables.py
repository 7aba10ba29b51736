"""Tables that read well as plain text."""

from gslora_mm.utils.tables import markdown_table


def test_tables_are_padded():
    text = markdown_table(['Name', 'n'], [['a', '10'], ['long name', '5']])
    assert text.splitlines() == [
        '| Name      |  n |',
        '|-----------|---:|',
        '| a         | 10 |',
        '| long name |  5 |',
    ]
