"""The turns of windows that have planned."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from tigerflow.engine.window import WindowRunner

#: Far more than anything takes here.
DEADLINE_S = 60


class Forks:
    """Starts no process."""

    def __init__(self):
        self.pid = 0

    def start(self, _function, _arguments, _name):
        self.pid += 1
        return SimpleNamespace(
            pid=self.pid, exitcode=0, join=lambda: None, close=lambda: None
        )


@pytest.mark.parametrize("first_ends", [True, False])
def test_window_hands_over_its_files_after_those_that_were_started_before(first_ends):
    async def run():
        windows = WindowRunner(Path(), Path(), [], Path("log"), Forks())
        first, second, third = (windows.start([], keep_metadata=True) for _ in range(3))
        had = []

        async def take_turn(window):
            await windows.turn(window.pid)
            had.append(window.pid)

        later = [asyncio.create_task(take_turn(each)) for each in (third, second)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert had == []
        if first_ends:
            windows.end(first)
        else:
            await take_turn(first)
        await asyncio.wait_for(asyncio.gather(*later), DEADLINE_S)
        assert had[-2:] == [2, 3]
        # Once more, as a window whose connection broke.
        await asyncio.wait_for(take_turn(second), DEADLINE_S)

    asyncio.run(run())


def test_clean_up_leaves_an_empty_directory_of_marks(tmp_path):
    windows = WindowRunner(Path(), tmp_path, [], Path("log"), Forks())
    marks = tmp_path / ".snakemake" / "incomplete"
    windows.clean()
    (marks / "b3V0").touch()
    windows.clean()
    assert [*marks.iterdir()] == []
