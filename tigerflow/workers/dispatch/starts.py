"""Judge failed starts of workers: is it the fault of the task, or of one node?

Until a worker of the task has been ready, a failed start stops the task, unless others
are setting up at that moment. After that, the task is known to run: a failed start
counts against its node, and the pool continues after a pause, longer each time. The
task stops when no worker is left and several starts in a row have failed.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from tigerflow.tasks.shell.launch import SETUP_COMMAND_FAILED
from tigerflow.workers.dispatch.link import Ending, log_tail
from tigerflow.workers.dispatch.members import PoolWorker
from tigerflow.workers.protocol import LeaveReason

#: Seconds without a start after one that failed: at first, at most.
PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0

#: How often in a row the scheduler may end the jobs of workers that are not ready.
MOST_EVICTIONS = 20


class Cause(Enum):
    """Why a start failed."""

    #: The task cannot run on this node: another start there would end the same way.
    REFUSED = auto()
    #: Its job ended before the worker began, which is often the node's fault.
    UNBORN = auto()
    #: It was short of processes, memory or the like; that passes.
    SHORTAGE = auto()
    #: It was killed: another may succeed.
    CHANCE = auto()
    #: Its scheduler ended the job.
    EVICTED = auto()


@dataclass(frozen=True)
class FailedStart:
    """A worker that was never ready."""

    #: Goes on "the task cannot run because": `its setup failed`.
    what: str
    #: The details.
    why: str
    cause: Cause = Cause.REFUSED
    #: Where it was; empty if unknown.
    node: str = ""
    #: The traceback of what its setup has raised.
    trace: str = ""

    @property
    def sentence(self) -> str:
        """What happened."""
        return _join(self.what, self.why)

    @property
    def sentence_with_node(self) -> str:
        """What happened, and where."""
        place = f" on {self.node}" if self.node else ""
        return _join(f"{self.what}{place}", self.why)


def _join(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


def failed_start(worker: PoolWorker, ending: Ending) -> FailedStart | None:
    """Return why a worker was never ready; None if no worker can start for now.

    It ended in its setup commands, died in `setup`, or its job never ran.
    """
    if ending.is_outage:
        return None
    node = worker.node or ending.node
    if worker.left and worker.left.why is LeaveReason.WALL_TIME:
        what = "its setup was not finished when its worker's wall time ended"
        return FailedStart(what, "", node=node)
    cause = Cause.REFUSED
    if worker.is_evicted(ending):
        cause = Cause.EVICTED
    elif ending.is_killed or worker.left:
        cause = Cause.CHANCE
    elif ending.was_taken:
        cause = Cause.UNBORN
    if not ending.has_started:
        return FailedStart("its worker could not start", ending.how, cause, node)
    *before, last = _last_lines(worker) or [""]
    if last.startswith(SETUP_COMMAND_FAILED):
        output = f"; last output: {before[-1]}" if before else ""
        what, _, why = f"its {last}{output}".partition(": ")
        return FailedStart(what, why, cause, node)
    what = f"its worker {worker.how_ended(ending)} before it was ready"
    return FailedStart(what, last, cause, node)


def _last_lines(worker: PoolWorker) -> list[str]:
    return log_tail(worker.link.log, worker.log_start).strip().splitlines()


class Starts:
    """The starts of one task's workers."""

    def __init__(self, attempts: int) -> None:
        """Give up after so many failures in a row, when no worker is left."""
        self._attempts = attempts
        #: Whether a worker has ever been ready.
        self.has_succeeded = False
        self._failures = self._evictions = 0
        #: Where they were, since the last success.
        self._nodes: set[str] = set()
        #: Runs while no worker is to be started, since the last start failed.
        self._pause: asyncio.TimerHandle | None = None
        #: Of the workers up to this number, only one failure per node counts: when a
        #: node breaks, all workers on it fail together.
        self._counted_up_to = 0

    def note_ready(self) -> None:
        """Note that a worker is ready."""
        self.has_succeeded = True
        self._failures = self._evictions = self._counted_up_to = 0
        self._nodes.clear()

    def take(
        self,
        failed: FailedStart,
        worker: PoolWorker,
        launched: int,
        others: Iterable[PoolWorker],
    ) -> str | None:
        """Note a failure; return why the task cannot run, or None if it can.

        Args:
            failed: the failure.
            worker: the worker that has failed to start.
            launched: how many workers have been launched so far.
            others: the other workers. While one is ready, or may soon be, the task
                can run.
        """
        is_first = not (self.has_succeeded or self._failures)
        if failed.cause is Cause.EVICTED:
            self._evictions += 1
            is_over = self._evictions >= MOST_EVICTIONS
        else:
            if worker.number > self._counted_up_to or failed.node not in self._nodes:
                self._failures += 1
                self._counted_up_to = launched
            self._nodes.add(failed.node)
            is_over = self._failures >= self._attempts
            if failed.cause is Cause.REFUSED and not self.has_succeeded:
                is_over = True
        if not is_over or any(map(self._is_hope, others)):
            return None
        return failed.sentence if is_first else failed.sentence_with_node

    def _is_hope(self, worker: PoolWorker) -> bool:
        """Return whether a worker shows that the task can run, or soon may."""
        if self.has_succeeded:
            return worker.is_open
        return worker.is_open or (worker.is_coming and worker.has_begun)

    @property
    def pause_s(self) -> float:
        """How long no worker is to be started after the last failure, in seconds."""
        doublings = max(self._failures + self._evictions - 1, 0)
        return min(PAUSE_S * 2.0 ** min(doublings, 10), LONGEST_PAUSE_S)

    @property
    def is_paused(self) -> bool:
        """Whether no worker is to be started now."""
        return self._pause is not None

    def pause(self, on_end: Callable[[], None]) -> None:
        """Start no worker for `pause_s`; then call `on_end`."""
        if self._pause is None:
            loop = asyncio.get_running_loop()
            self._pause = loop.call_later(self.pause_s, self._end_start_pause, on_end)

    def _end_start_pause(self, on_end: Callable[[], None]) -> None:
        self._pause = None
        on_end()
