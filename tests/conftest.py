import os

import pytest
from single_task import Bench
from slurm.throwaway import Cluster, what_is_missing


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests that share a Slurm: others can run beside them."""
    for item in items:
        if "slurm_of_session" in item.fixturenames:
            item.add_marker("slurm")


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


@pytest.fixture(scope="session")
def slurm_of_session():
    """A Slurm that all tests share: it takes seconds to start.

    Where it cannot be had, tests skip; in CI they fail.
    """
    if (missing := what_is_missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_of_session):
    """A Slurm without jobs, and with all that it has in order."""
    slurm_of_session.restore()
    return slurm_of_session
