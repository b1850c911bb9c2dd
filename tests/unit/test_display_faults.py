"""A display that fails: the log goes on, and nobody waits for it."""

import asyncio
import contextlib
import io
import os
import pty
import sys
import threading

import pytest
from rich.console import Console
from snapshots import BUSY

from tigerflow.cli._display import Display
from tigerflow.log import configure, logger

WARNING = "The display has failed; the log goes on without it"


class BrokenConsole(Console):
    def print(self, *_values, **_how):
        raise KeyError(0)


def look():
    return BUSY


def fail():
    raise KeyError(0)


@contextlib.contextmanager
def terminal():
    """Have a terminal; yield a stream to it, and what it has shown by then."""
    leader, follower = pty.openpty()
    shown = io.BytesIO()

    def read():
        # It raises when the other side is closed.
        with contextlib.suppress(OSError):
            while data := os.read(leader, 4096):
                shown.write(data)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    with os.fdopen(follower, "w") as stream:
        yield stream, shown
    reading.join(60)
    os.close(leader)


@pytest.mark.parametrize(
    ("kind", "each_look"), [(Console, fail), (BrokenConsole, look)]
)
def test_failing_display_warns_once_and_the_log_continues(
    tmp_path, monkeypatch, kind, each_look
):
    async def serve(display):
        display.follow(asyncio.get_running_loop(), each_look)
        while not display._is_broken:  # noqa: ASYNC110 -- set by a thread
            await asyncio.sleep(0.01)
        logger.info("a line of the log")

    with terminal() as (stream, shown):
        monkeypatch.setattr(sys, "stderr", stream)
        console = kind(file=stream, force_terminal=True, highlight=False)
        try:
            with Display(console, tmp_path) as display:
                configure()
                asyncio.run(asyncio.wait_for(serve(display), 60))
        finally:
            logger.remove()
        assert not display._thread.is_alive()
    text = shown.getvalue().decode()
    assert text.count(WARNING) == 1, text
    assert "a line of the log" in text
