"""Which files a service knows, and how far each is: waiting, staged, or settled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tigerflow.rundir.judgement import Status
from tigerflow.service.inbox import Arrival


@dataclass(eq=False)
class StagedFile:
    """A file on its way."""

    arrival: Arrival
    stem: str
    #: Its place in the order of staging.
    place: int
    attempts: int = 0
    #: The tasks whose outputs its window was asked for.
    asked: tuple[str, ...] = ()
    #: Whether results that are there are known to be of this content.
    proven: bool = False


@dataclass(frozen=True)
class Counts:
    """How many files are in each state."""

    waiting: int = 0
    staged: int = 0
    done: int = 0
    failed: int = 0


class Ledger:
    """Which files are known, by name, and in which state.

    Written by the event loop only; the inbox's thread looks things up in it.
    """

    def __init__(self) -> None:
        """Start with no file known."""
        self.waiting: dict[str, Arrival] = {}
        self.staged: dict[str, StagedFile] = {}
        self.settled: dict[str, tuple[Arrival, Status]] = {}
        #: Those of `staged` that only wait for a task that cannot run.
        self.stuck: set[str] = set()
        self.failed = 0

    def unknown(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Leave out files that are in hand, or settled and unchanged since."""
        for arrival in arrivals:
            if arrival.name in self.staged or self.waiting.get(arrival.name) == arrival:
                continue
            settled = self.settled.get(arrival.name)
            # Not by the inode: there are file systems on which that does not stay.
            if settled is None or settled[0].signature[1:] != arrival.signature[1:]:
                yield arrival

    def settle(self, arrival: Arrival, status: Status) -> None:
        """Note that a file is done or failed."""
        self.forget(arrival.name)
        self.settled[arrival.name] = (arrival, status)
        self.failed += status is Status.FAILED

    def forget(self, name: str) -> None:
        """Drop a file from all states."""
        self.waiting.pop(name, None)
        self.staged.pop(name, None)
        self.stuck.discard(name)
        previous = self.settled.pop(name, None)
        self.failed -= previous is not None and previous[1] is Status.FAILED

    def counts(self) -> Counts:
        """Count the files by state."""
        done = len(self.settled) - self.failed
        staged = len(self.staged) - len(self.stuck)
        return Counts(len(self.waiting), staged, done, self.failed)
