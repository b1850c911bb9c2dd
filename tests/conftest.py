import contextlib
import os
import signal
import tempfile
from pathlib import Path

import pytest
from single_task import Bench
from slurm.throwaway import Cluster, what_is_missing


def pytest_configure():
    """Let what tests start be interrupted: a script that ends in `&` has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def as_nobody():
    """Make a directory of this mode, and be a user without rights to it."""

    @contextlib.contextmanager
    def as_nobody(mode):
        # Not tmp_path, which others may not enter.
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place, "inputs")
            directory.mkdir()
            directory.chmod(mode)
            Path(place).chmod(0o755)
            user = os.geteuid()
            if user == 0:
                os.seteuid(65534)
            try:
                yield directory
            finally:
                os.seteuid(user)
                directory.chmod(0o755)

    return as_nobody
