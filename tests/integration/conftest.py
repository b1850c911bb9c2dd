"""What the tests of running services share."""

import pytest
from runs import World
from services import Watched


@pytest.fixture
def world(tmp_path):
    """Run directories, of which nothing may be left but files."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def flow(world):
    """A pipeline that a service can serve."""
    return Watched(world)
