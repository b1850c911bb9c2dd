"""Judges starts of workers that fail: is it the task's fault, or that of one node?

Until a worker of the task has been ready, a start that fails stops the task, unless
others set up at that moment. Afterwards the task can run: a start that fails counts
against its node, and the pool goes on, after a pause that grows. The task stops when
no worker is left, and several starts in a row have failed.
"""

from dataclasses import dataclass
from enum import Enum, auto

#: How long no worker is started after a start that failed: at first, at most.
PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0

#: How often in a row the scheduler may end the jobs of workers that are not ready.
MOST_EVICTIONS = 20


class Cause(Enum):
    """Why a start failed."""

    #: The task, or the node, says no: another start on this node ends the same way.
    REFUSED = auto()
    #: Its job ended before it began, which is often the node's fault.
    UNBORN = auto()
    #: It was short of processes, memory or the like; that passes.
    SHORTAGE = auto()
    #: It was killed: another may do better.
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
    #: Where it was; empty if that is not known.
    node: str = ""
    #: Of what its setup has raised.
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
        #: Of workers up to this number, only one counts on each node: all that are on
        #: a node when it breaks fail together.
        self._counted_up_to = 0

    def note_ready(self) -> None:
        """Note that a worker is ready."""
        self.has_succeeded = True
        self._failures = self._evictions = self._counted_up_to = 0
        self._nodes.clear()

    def take(
        self, failed: FailedStart, number: int, launched: int, *, hope: bool
    ) -> str | None:
        """Take note of a failure; return why the task cannot run, if it cannot.

        Args:
            failed: the failure.
            number: that of the worker.
            launched: how many workers have been launched so far.
            hope: whether others are ready, or may soon be.
        """
        is_first = not (self.has_succeeded or self._failures)
        if failed.cause is Cause.EVICTED:
            self._evictions += 1
            is_over = self._evictions >= MOST_EVICTIONS
        else:
            if number > self._counted_up_to or failed.node not in self._nodes:
                self._failures += 1
                self._counted_up_to = launched
            self._nodes.add(failed.node)
            is_over = self._failures >= self._attempts
            if failed.cause is Cause.REFUSED and not self.has_succeeded:
                is_over = True
        if hope or not is_over:
            return None
        return failed.sentence if is_first else failed.sentence_with_node

    @property
    def pause_s(self) -> float:
        """How long no worker is to be started now."""
        doublings = max(self._failures + self._evictions - 1, 0)
        return min(PAUSE_S * 2.0 ** min(doublings, 10), LONGEST_PAUSE_S)
