import os

from gslora_mm.utils.sharing import read_once, shared


def reader(path, calls):
    def read():
        calls.append(path)
        return [path.read_text()]

    return read


def test_a_file_is_read_once_as_long_as_it_stays(tmp_path):
    path, calls = tmp_path / 'a.json', []
    path.write_text('old')
    with read_once():
        first = shared([path], 'all', reader(path, calls))
        with read_once():  # what is within goes on with it
            assert shared([path], 'all', reader(path, calls)) is first
        assert shared([path], 'all', reader(path, calls)) is first
        assert shared([path], 'some', reader(path, calls)) is not first
        assert len(calls) == 2
        path.write_text('new')
        os.utime(path, ns=(1, 1))
        assert shared([path], 'all', reader(path, calls)) == ['new']
    assert len(calls) == 3


def test_nothing_is_kept_outside_nor_of_files_that_are_elsewhere(tmp_path):
    path, calls = tmp_path / 'a.json', []
    path.write_text('text')
    for _ in range(2):
        with read_once():
            shared([path], 'all', reader(path, calls))
    shared([path], 'all', reader(path, calls))
    assert len(calls) == 3
    with read_once():
        for _ in range(2):
            shared(['s3://a.json'], 'all', reader(path, calls))
    assert len(calls) == 5
