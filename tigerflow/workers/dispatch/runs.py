"""The Snakemakes that a host serves: it ends when the last of them has ended."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from tigerflow.faults import begin

#: Where the kernel cannot notify of a process's end (before Linux 5.3).
RUN_POLL_S = 0.5


class Runs:
    """The processes that a host is there for."""

    def __init__(self, on_last_end: Callable[[], None]) -> None:
        """Call `on_last_end` each time that none is left."""
        self._on_last_end = on_last_end
        self._watches: dict[int, asyncio.Task[None]] = {}

    def watch(self, pid: int) -> None:
        """Count a process until it ends."""
        if pid not in self._watches:
            self._watches[pid] = begin(self._wait(pid))

    def close(self) -> None:
        """Watch no process any more."""
        for watch in self._watches.values():
            watch.cancel()

    async def _wait(self, pid: int) -> None:
        await _process_end(pid)
        del self._watches[pid]
        if not self._watches:
            self._on_last_end()


async def _process_end(pid: int) -> None:
    """Return when the process has ended, also while its parent has not noticed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while _state(pid) not in {"", "Z", "X"}:  # noqa: ASYNC110 -- nothing to wait on
            await asyncio.sleep(RUN_POLL_S)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _state(pid: int) -> str:
    """Return the state letter of proc(5), or nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
