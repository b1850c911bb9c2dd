"""What happened when, according to the journal: runs, tries, the queue, workers.

Folds the events into a few numbers each, however many files there are. Times are in
seconds since the epoch; an event without a readable time is left out.
"""

import heapq
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from tigerflow.rundir.events import (
    Event,
    FileDone,
    FileForgotten,
    FileSettled,
    FilesStaged,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskTried,
    WorkerChanged,
    WorkerState,
)

#: As many of the slowest tries of each task are kept.
SLOWEST = 10

#: Runs that follow each other within so many seconds, or within a share of what was
#: before, are looked at together: such as those of a service that was killed.
PAUSE_S, PAUSE_SHARE = 60.0, 0.1


@dataclass(eq=False)
class Life:
    """One worker, from its launch to its end; None is unknown."""

    task: str
    launched: float
    #: When its process has started, and has set up.
    started: float | None
    ready: float | None = None
    ended: float | None = None
    host: str = ""
    how: str = ""
    #: Pairs, flat: when it began a try, and for how many seconds it ran.
    tries: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(eq=False)
class Tries:
    """What a task has tried in one run."""

    #: Of each try: when it had ended, how long it took, and whether it succeeded.
    ended: "array[float]" = field(default_factory=lambda: array("d"))
    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    succeeded: bytearray = field(default_factory=bytearray)
    #: (seconds, began, stem, succeeded), the slowest; a heap.
    slowest: list[tuple[float, float, str, bool]] = field(default_factory=list)

    def add(self, began: float, seconds: float, stem: str, *, succeeded: bool) -> None:
        """Note one."""
        self.ended.append(began + seconds)
        self.seconds.append(seconds)
        self.succeeded.append(succeeded)
        entry = (seconds, began, stem, succeeded)
        if len(self.slowest) < SLOWEST:
            heapq.heappush(self.slowest, entry)
        elif entry > self.slowest[0]:
            heapq.heapreplace(self.slowest, entry)


@dataclass(eq=False)
class Run:
    """One run of a service."""

    began: float
    #: When its last event was.
    last: float
    #: What it said of itself at its start.
    start: RunStarted
    #: How it has ended, as it said itself; empty if it did not.
    end: str = ""
    tries: dict[str, Tries] = field(default_factory=lambda: defaultdict(Tries))
    lives: dict[tuple[str, int], Life] = field(default_factory=dict)
    #: When files were settled: done, and failed.
    done: "array[float]" = field(default_factory=lambda: array("d"))
    failed: "array[float]" = field(default_factory=lambda: array("d"))
    #: Pairs, flat, in no order: a time, and how many more files were staged then.
    staged: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def count(self) -> int:
        """How many tries there were."""
        return sum(len(tries.seconds) for tries in self.tries.values())


class Chronicle:
    """Folds events; `runs` are in their order."""

    def __init__(self, input_ext: str) -> None:
        """Take names of files that end in `input_ext` for those of the stems."""
        self.runs: list[Run] = []
        self._input_ext = input_ext
        self._staged: set[str] = set()
        #: When the last try of a staged file had ended, by stem.
        self._ended: dict[str, float] = {}

    def take(self, event: Event) -> None:
        """Note an event."""
        at = seconds_of(event.at)
        if at is None:
            return
        if isinstance(event, RunStarted):
            self._staged.clear()
            self._ended.clear()
            self.runs.append(Run(at, at, event))
            return
        if not self.runs:
            # Its start is lost.
            self.runs.append(Run(at, at, RunStarted()))
        run = self.runs[-1]
        run.last = max(run.last, at)
        match event:
            case TaskTried(seconds=float() | int() as seconds) if seconds >= 0:
                self._ended[event.file] = _take_try(run, event, at, seconds)
            case WorkerChanged():
                _take_worker(run, event, at)
            case RunStopped():
                run.end = event.reason
            case _:
                self._take_file(run, event, at)

    def _take_file(self, run: Run, event: Event, at: float) -> None:
        before = len(self._staged)
        match event:
            case FilesStaged():
                self._staged.update(event.files)
            case FileSettled(file=name) | FileForgotten(file=name):
                self._staged.discard(name)
                # Many files are recorded as settled together, later than they were.
                at = self._ended.pop(name.removesuffix(self._input_ext), at)
                if isinstance(event, FileSettled):
                    is_done = isinstance(event, FileDone)
                    (run.done if is_done else run.failed).append(at)
            case _:
                return
        if len(self._staged) != before:
            run.staged.extend((at, len(self._staged) - before))


def seconds_of(text: object) -> float | None:
    """Return the time that a journal's text names, or None."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None


def _take_try(run: Run, event: TaskTried, at: float, seconds: float) -> float:
    """Note a try; return when it had ended."""
    began = seconds_of(event.started)
    if began is None:
        began = at - seconds
    succeeded = isinstance(event, TaskDone)
    run.tries[event.task].add(began, seconds, event.file, succeeded=succeeded)
    life = run.lives.get((event.task, event.worker))
    if life is not None:
        life.tries.extend((began, seconds))
    return began + seconds


def _take_worker(run: Run, event: WorkerChanged, at: float) -> None:
    key = (event.task, event.worker)
    if event.state == WorkerState.LAUNCHED:
        run.lives[key] = Life(event.task, at, None)
    life = run.lives.get(key)
    if life is None:
        return
    match event.state:
        case WorkerState.STARTED:
            life.started, life.host = at, event.note
        case WorkerState.READY:
            life.ready = at
        case WorkerState.ENDED:
            life.ended, life.how = at, event.note
        case _:
            pass


def busiest_stretch(runs: list[Run]) -> list[Run]:
    """Return the runs, one soon after the other, that tried most; of equals, the last.

    A time axis over all that ever happened would be nearly empty.
    """
    stretches: list[list[Run]] = []
    for run in runs:
        latest = stretches[-1] if stretches else None
        if latest and run.began - latest[-1].last <= max(
            PAUSE_S, PAUSE_SHARE * (latest[-1].last - latest[0].began)
        ):
            latest.append(run)
        else:
            stretches.append([run])
    return max(
        reversed(stretches),
        key=lambda stretch: sum(run.count for run in stretch),
        default=[],
    )
