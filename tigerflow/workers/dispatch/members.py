"""What a pool knows about its workers, and about the files that wait for them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tigerflow.rundir.events import WorkerState
from tigerflow.tasks.file_job import FileJob
from tigerflow.workers.dispatch.link import Ending, Link, NoRoomError
from tigerflow.workers.protocol import Answer, LeaveReason, Left, Started

#: Called with a task's name, the number of one of its workers, what has become of
#: that worker, and a note.
WorkerListener = Callable[[str, int, WorkerState, str], None]


def ignore(_task: str, _worker: int, _state: WorkerState, _note: str) -> None:
    """Do nothing."""


@dataclass(eq=False)
class PoolFile:
    """A file that was asked for and has no answer yet."""

    job: FileJob
    answer: asyncio.Future[Answer]
    #: Its place among those that wait.
    place: int
    #: How many callers wait for the answer.
    waiters: int = 0
    #: How many workers have died while they processed it.
    deaths: int = 0
    #: How often a worker's wall time ended while it ran, and for how long it ran then.
    cuts: int = 0
    cut_s: float = 0.0
    #: How often the scheduler has ended a worker's job while it ran.
    evictions: int = 0
    #: The number of the call that it is in, and how many files are in that call.
    call: int = 0
    call_size: int = 1
    #: Whether it must have a call of its own, since one with others went wrong.
    is_single: bool = False
    #: Runs while a worker processes it, if the task has a timeout.
    timer: asyncio.TimerHandle | None = None
    is_late: bool = False

    @property
    def goes_alone(self) -> bool:
        """Whether no other file may be in the same call."""
        return self.is_single or self.deaths > 0

    def settle(self, answer: Answer) -> None:
        """Give the answer, unless nobody waits for it any more."""
        self.stop_timer()
        if not self.answer.done():
            self.answer.set_result(answer)

    def stop_timer(self) -> None:
        """Stop the timer of its timeout."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(eq=False)
class PoolWorker:
    """A worker from its launch to its end."""

    link: Link
    #: From 1 on, in the order in which they are launched.
    number: int
    #: How many bytes its log had when it began its present files.
    log_start: int
    started: bool = False
    #: The host that it has started on, when that is another one.
    node: str = ""
    ready: bool = False
    #: Whether its start has failed; it ends by itself.
    has_failed: bool = False
    #: Asked to end; gets no more files.
    stopping: bool = False
    #: Stopped because a file took too long.
    is_late: bool = False
    #: Its last message, if it ends of its own accord.
    left: Left | None = None
    #: When it must have ended, in seconds since the epoch; None is never.
    ends_at: float | None = None
    #: How many files it has finished.
    finished: int = 0
    #: Seconds since the epoch: when it was ready, and when it began its present file.
    ready_at: float = 0.0
    began: float = 0.0
    in_flight: dict[int, PoolFile] = field(default_factory=dict)
    #: Runs while it has no file, then while it tears down.
    timer: asyncio.TimerHandle | None = None
    #: Runs while it has calls that it has not begun.
    ahead_timer: asyncio.TimerHandle | None = None

    @property
    def calls(self) -> int:
        """How many calls it has, begun or not."""
        return len({file.call for file in self.in_flight.values()})

    def at_work(self, limit: int) -> Iterator["PoolFile"]:
        """Yield the files it works on; it has up to `limit` calls at once.

        It may have the files of later calls already; these wait.
        """
        calls: set[int] = set()
        for file in self.in_flight.values():
            calls.add(file.call)
            if len(calls) > limit:
                return
            yield file

    @property
    def is_open(self) -> bool:
        """Whether it takes files, if it has room."""
        return self.ready and not (self.stopping or self.left)

    @property
    def is_early(self) -> bool:
        """Whether, if it ends now, its start has failed."""
        return not (self.ready or self.stopping or self.has_failed)

    def is_evicted(self, ending: Ending) -> bool:
        """Return whether the scheduler has ended its job, as either reports."""
        was_told = self.left is not None and self.left.why is LeaveReason.ENDED
        return was_told or ending.is_evicted

    def how_ended(self, ending: Ending) -> str:
        """Return how it ended, as the end of a sentence: "the worker …"."""
        if self.left is not None and self.left.why is LeaveReason.ENDED:
            # With exit code 0, which says nothing.
            return (
                "was asked to end, as when its job is cancelled, preempted or requeued,"
            )
        return ending.how

    def note_start(self, started: Started) -> None:
        """Note that its process runs, on another host."""
        self.started, self.node = True, started.node or started.host
        self.ends_at = started.ends_at

    def note_ready(self) -> None:
        """Note that it has set up."""
        if not self.stopping:
            self.stop_timer()
        self.ready, self.ready_at = True, time.time()

    @property
    def has_begun(self) -> bool:
        """Whether its process is known to run."""
        return self.started or self.link.pid is not None

    @property
    def is_coming(self) -> bool:
        """Whether it is expected to be ready."""
        return self.is_early and self.left is None

    def stop(self, grace_s: int) -> None:
        """Have it give up its files, tear down and end; kill it after `grace_s`."""
        if self.stopping:
            return
        self.stopping = True
        self.stop_timer()
        loop = asyncio.get_running_loop()
        patience_s = grace_s + self.link.notice_s
        self.timer = loop.call_later(patience_s, self.link.kill)
        self.link.stop()

    def stop_timer(self) -> None:
        """Stop the timer that would end it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FileSide(Protocol):
    """What the workers of a pool do for its files."""

    def dispatch(self) -> None:
        """Give files to workers, and start workers: something has changed."""

    def note_change(
        self, worker: PoolWorker, state: WorkerState, note: str = ""
    ) -> None:
        """Pass on what has become of a worker."""

    def take_answer(self, worker: PoolWorker, answer: Answer) -> None:
        """Take a worker's answer for one of its files."""

    def take_back(self, worker: PoolWorker, ids: list[int]) -> None:
        """Take files that a worker has handed back, by their numbers."""

    def settle_files(self, worker: PoolWorker, ending: Ending) -> None:
        """Settle or put back the files that a worker had when it ended."""

    def block(self, error: NoRoomError) -> None:
        """Answer the files that wait: no worker can start until there is room."""
