import pytest
from single_task import Bench


@pytest.fixture
def weird_tmp_path(tmp_path):
    """A directory whose path has all that an unquoted command would stumble over."""
    path = tmp_path / 'it\'s "$(x)" & {y} é'
    path.mkdir()
    return path


@pytest.fixture
def bench(weird_tmp_path):
    """An input and an output directory, and tasks to run on them."""
    bench = Bench(weird_tmp_path)
    yield bench
    bench.close()
