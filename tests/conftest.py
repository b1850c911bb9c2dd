import contextlib
import itertools
import os
import signal
import tempfile
from pathlib import Path

import pytest
from single_task import Bench
from slurm.throwaway import DIRECTORY, Cluster, what_is_missing

#: Which of the processes of pytest-xdist this is, if it is one.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

#: In how many processes the tests on Slurm run, with a cluster each. They wait more
#: than others do, and begin first: large groups do.
CLUSTERS = 3

#: Set up once for all tests that look at it, which one process therefore runs.
LOOKED_AT = ("browser", "failed", "finished", "made")


def pytest_configure():
    """Let what tests start heed the signals that nohup and a script's `&` ignore.

    A program that is started ignores what its parent ignores, but not what its parent
    handles.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number, _frame):
    pass


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """Mark the tests on Slurm, and those that are to run in one process.

    Before pytest-xdist and the option `-m` look at the marks.
    """
    clusters = itertools.cycle(range(CLUSTERS))
    for item in items:
        groups = [name for name in LOOKED_AT if name in item.fixturenames]
        if "slurm_of_session" in item.fixturenames:
            item.add_marker("slurm")
            if item.get_closest_marker("xdist_group") is None:
                groups.append(f"slurm {next(clusters)}")
        for name in groups:
            item.add_marker(pytest.mark.xdist_group(name))
    return (yield)


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
    """A Slurm that all tests of a process share: it takes seconds to start.

    Where it cannot be had, tests skip; in CI they fail.
    """
    if (missing := what_is_missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with Cluster(DIRECTORY.with_name(f"{DIRECTORY.name}{WORKER}")) as cluster:
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
