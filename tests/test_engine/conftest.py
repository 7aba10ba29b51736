import pytest

from tests.sequences import make_inputs


@pytest.fixture(scope='session')
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp('inputs'))
