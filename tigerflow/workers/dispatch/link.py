"""Reach workers wherever they run: start one, talk to it, end it."""

import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tigerflow.errors import StorageError
from tigerflow.tasks.printed import PRINTED_TAIL
from tigerflow.workers.protocol import Message


class LaunchError(Exception):
    """No worker can be started; the text says why."""


class NoRoomError(LaunchError):
    """No worker can be started until files can be stored again."""

    def __init__(self, trouble: StorageError) -> None:
        super().__init__(str(trouble))
        self.is_outage = trouble.is_outage


@dataclass(frozen=True)
class Ending:
    """How a worker's process ended."""

    #: Goes on "the worker ": `was killed by signal 9 (SIGKILL)`. Of one that never
    #: started, it is the reason.
    how: str
    #: Whether something from outside ended it, so that another may do better.
    is_killed: bool
    has_started: bool = True
    #: Whether no worker can start for now.
    is_outage: bool = False
    #: Whether the scheduler ended its job, which is nobody's fault: it was cancelled,
    #: preempted or requeued, or its node was lost.
    is_evicted: bool = False
    #: If it never started: whether the scheduler had accepted its job.
    was_taken: bool = False
    #: The host it was to start on; empty if unknown.
    node: str = ""


def ending_of(code: int) -> Ending:
    """Return how a process ended, by its exit code as `Popen.returncode`."""
    if code >= 0:
        return Ending(f"ended with exit code {code}", is_killed=False)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return Ending(f"was killed by signal {-code} ({name})", is_killed=True)


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
        """Where in the log its prints start, in bytes."""

    @property
    def notice_s(self) -> float:
        """How many seconds it may take to learn that it is to end."""

    def send(self, message: Message) -> None:
        """Send a message; no error if the worker has ended."""

    def receive(self) -> AsyncIterator[Message]:
        """Yield the worker's messages, until there can be no more."""

    def stop(self) -> None:
        """Have it give up its files, tear down and end."""

    def kill(self) -> None:
        """End it, and all that it started, without a teardown."""

    async def wait(self) -> Ending:
        """Return when the process has ended and all its messages were received."""

    async def gone(self) -> None:
        """Return when another worker may take its place."""

    def remove_temporaries(self, directory: Path) -> None:
        """Remove the temporary files that it has left, once it has ended."""


class Launcher(Protocol):
    """Starts workers of one task."""

    async def launch(self) -> Link:
        """Start one; it is ready when it says so.

        Raises:
            LaunchError: it cannot be started.
        """

    def avoid(self, node: str) -> None:
        """Start no worker on a node where one failed to start, if there is a choice."""

    async def close(self) -> None:
        """Start no more; return when nothing is left of those that were started."""


def log_size(log: Path) -> int:
    """Return the size of a log in bytes; 0 if it does not exist."""
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
