from gslora_mm.utils.text import duration, percent, shortened


def test_percents():
    assert percent(0.85149) == '85.1'
    assert percent(0.85149, 2) == '85.15'
    assert percent(0) == '0.0'
    assert percent(None) == '-'


def test_names_are_shortened():
    assert shortened([], 3) == ''
    assert shortened(['a', 'b'], 3) == 'a, b'
    assert shortened(iter('abcde'), 2) == 'a, b and 3 more'
    assert shortened('abcde', 5) == 'a, b, c, d, e'


def test_names_are_shortened_to_what_fits():
    names = ['zero', 'one', 'two']
    assert shortened(names, 3, 14) == 'zero, one, two'
    assert shortened(names, 3, 13) == 'zero and 2 more'  # one always
    assert shortened(names, 2, 21) == 'zero, one and 1 more'
    assert shortened(['a very long name'], 3, 5) == 'a very long name'


def test_lengths_of_time():
    seconds = [0.2, 1.6, 119, 120, 7199, 7200, 90000]
    assert [*map(duration, seconds)] == [
        'a second', '2 seconds', '119 seconds', '2 minutes', '120 minutes',
        '2 hours', '25 hours',
    ]  # fmt: skip
