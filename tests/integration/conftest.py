"""What the tests that start processes share."""

import pytest
from runs import World
from services import Watched


@pytest.fixture
def root(tmp_path):
    """Where the files of a test are; a module may choose another place."""
    return tmp_path


@pytest.fixture
def world(root):
    """Run directories, of which nothing may be left but files."""
    with World(root) as made:
        yield made


@pytest.fixture
def flow(world):
    """A pipeline that a service can serve."""
    return Watched(world)
