"""How a pool reaches its workers, wherever they run: start one, talk to it, end it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tigerflow.tasks.execution import PRINTED_TAIL
from tigerflow.workers.protocol import Message


class LaunchError(Exception):
    """No worker can be started; the text says why."""


@dataclass(frozen=True)
class Ending:
    """How a worker's process ended."""

    #: Goes on "the worker ": `was killed by signal 9 (SIGKILL)`.
    how: str
    #: Whether something from outside ended it, so that another may do better.
    is_killed: bool


class Link(Protocol):
    """A worker, as its pool sees it."""

    @property
    def pid(self) -> int | None:
        """Its process id, if it is on this host."""

    @property
    def log(self) -> Path:
        """Where the worker's prints go."""

    @property
    def log_start(self) -> int:
        """Where in that its prints start."""

    def send(self, message: Message) -> None:
        """Send a message; nobody listening any more is no error."""

    def receive(self) -> AsyncIterator[Message]:
        """Yield what the worker says, until it can say no more."""

    def close(self) -> None:
        """Send no more: it gives up what it has in hand, tears down and ends."""

    def kill(self) -> None:
        """End it, and all that it started, without a teardown."""

    async def wait(self) -> Ending:
        """Return when the process has ended and all it said was received."""

    async def gone(self) -> None:
        """Return when it takes no place among the workers any more."""

    def remove_temporaries(self, directory: Path) -> None:
        """Remove what it left half written, once it has ended."""


class Launcher(Protocol):
    """Starts workers of one task."""

    async def launch(self) -> Link:
        """Start one; it is ready when it says so.

        Raises:
            LaunchError: that is impossible.
        """

    async def close(self) -> None:
        """Return when nothing is left of the workers, which are told to stop."""


def log_size(log: Path) -> int:
    """Return where in a log the next line goes."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def log_tail(log: Path, start: int) -> str:
    """Return the last of what was written to a log since it had `start` bytes."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(start, end - 4 * PRINTED_TAIL))
        return file.read().decode(errors="replace")[-PRINTED_TAIL:]
    return ""
