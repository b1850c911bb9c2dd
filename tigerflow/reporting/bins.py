"""What a chronicle comes to in few numbers, so that a chart of it stays small. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from tigerflow.reporting.chronicle import Life, Run

#: At most so many bins on a time axis, and a decade of a logarithmic one.
TIME_BINS, DECADE_BINS = 120, 10

#: Of the states of workers, which are drawn apart for each.
LANE_BINS = 240

#: How finely the share is drawn in which a worker was busy.
BUSY_LEVELS = 5

#: Shorter tries are drawn as these: a logarithmic axis has no zero.
SHORTEST_S = 1e-4

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_WIDTHS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(n * _MINUTE_S for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR_S for n in (1, 2, 3, 6, 12)),
)


@dataclass(frozen=True)
class TimeAxis:
    """Bins of equal width, aligned to whole multiples of it."""

    start: float
    width_s: float
    count: int

    @classmethod
    def over(cls, began: float, ended: float, most: int) -> "TimeAxis":
        """Cover a time with at most `most` bins, and one more where it does not fit."""
        least = (ended - began) / most
        days = math.ceil(least / _DAY_S) * _DAY_S
        width_s = next((width for width in _WIDTHS_S if width >= least), days)
        start = math.floor(began / width_s) * width_s
        return cls(start, width_s, math.floor((ended - start) / width_s) + 1)

    def index(self, at: float) -> int:
        """Return the bin of a time; the nearest for one outside."""
        found = math.floor((at - self.start) / self.width_s)
        return min(max(found, 0), self.count - 1)

    def at(self, index: float) -> float:
        """Return when a bin begins."""
        return round(self.start + index * self.width_s, 3)


def axis_of(stretch: Sequence[Run], most: int) -> TimeAxis:
    """Return a time axis for runs, of which there is at least one."""
    ended = max(run.last for run in stretch)
    return TimeAxis.over(stretch[0].began, ended, most)


@dataclass(frozen=True)
class Moment:
    """One bin of time: files that were done, that failed, and that were staged."""

    start: float
    end: float
    done: int
    failed: int
    #: The most at one moment.
    depth: int


def moments(stretch: Sequence[Run]) -> list[Moment]:
    """Return what the runs did over time, bin by bin."""
    axis = axis_of(stretch, TIME_BINS)
    done = _counted(axis, (at for run in stretch for at in run.done))
    failed = _counted(axis, (at for run in stretch for at in run.failed))
    depths = _deepest(axis, _depths(stretch))
    return [
        Moment(axis.at(i), axis.at(i + 1), done[i], failed[i], depths[i])
        for i in range(axis.count)
    ]


def _counted(axis: TimeAxis, times: Iterable[float]) -> list[int]:
    counts = [0] * axis.count
    for at in times:
        counts[axis.index(at)] += 1
    return counts


def _depths(stretch: Sequence[Run]) -> Iterator[tuple[float, int]]:
    for run in stretch:
        # A new run takes nothing over.
        yield run.began, 0
        depth = 0
        for at, more in sorted(zip(run.staged[::2], run.staged[1::2], strict=True)):
            depth += int(more)
            yield at, max(0, depth)
        yield run.last, 0


def _deepest(axis: TimeAxis, depths: Iterable[tuple[float, int]]) -> list[int]:
    most = [0] * axis.count
    reached = depth = 0
    for at, now in depths:
        # What was before held until now.
        index = axis.index(at)
        for i in range(reached, index + 1):
            most[i] = max(most[i], depth)
        reached, depth = index, now
        most[index] = max(most[index], now)
    return most


@dataclass(frozen=True)
class DurationBin:
    """Tries that took between two times; counts of those that succeeded and failed."""

    least_s: float
    most_s: float
    done: int
    failed: int


def duration_bins(tries: Iterable[tuple[float, bool]]) -> list[DurationBin]:
    """Return how (seconds, succeeded) are distributed, in bins of equal ratio."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for seconds, succeeded in tries:
        place = math.floor(math.log10(max(seconds, SHORTEST_S)) * DECADE_BINS)
        counts[place][not succeeded] += 1
    return [
        DurationBin(_edge(place), _edge(place + 1), *counts[place])
        for place in sorted(counts)
    ]


def _edge(place: int) -> float:
    return float(f"{10 ** (place / DECADE_BINS):.4g}")


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of sorted values does not exceed."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


class WorkerState(StrEnum):
    """What a worker is about."""

    #: Its job is in the queue.
    PENDING = "pending"
    SETUP = "setting up"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True)
class Segment:
    """A worker in one state; of a busy one, the share of the time is given."""

    lane: str
    state: WorkerState
    start: float
    end: float
    share: float
    life: Life


@dataclass(frozen=True)
class Lanes:
    """Workers over time: each lane has one after another."""

    names: tuple[str, ...]
    segments: tuple[Segment, ...]


def lanes(stretch: Sequence[Run]) -> Lanes:
    """Return the lives of all workers, those of a task beside each other."""
    axis = axis_of(stretch, LANE_BINS)
    by_task: dict[str, list[tuple[Run, Life]]] = defaultdict(list)
    for run in stretch:
        for task in run.facts_by_task("tasks"):
            by_task.setdefault(task, [])
        for life in run.lives.values():
            by_task[life.task].append((run, life))
    names: list[str] = []
    segments: list[Segment] = []
    for task, lives in by_task.items():
        placed = _placed(lives)
        names += [f"{task} {number + 1}" for number in range(len(set(placed)))]
        for (run, life), number in zip(lives, placed, strict=True):
            segments += _segments(axis, run, life, f"{task} {number + 1}")
    return Lanes(tuple(names), tuple(segments))


def _placed(lives: Sequence[tuple[Run, Life]]) -> list[int]:
    """Return a lane for each life: the first that is free when it begins."""
    free_from: list[float] = []
    places = []
    for run, life in lives:
        place = next(
            (i for i, free in enumerate(free_from) if free <= life.launched),
            len(free_from),
        )
        free_from[place : place + 1] = [end_of(run, life)]
        places.append(place)
    return places


def end_of(run: Run, life: Life) -> float:
    """Return when a worker ended; with the run, if nobody has said so."""
    return run.last if life.ended is None else life.ended


def start_of(run: Run, life: Life) -> float | None:
    """Return when a worker's process started, or None if it only waited."""
    is_job = run.facts_by_task("kinds").get(life.task) == "slurm"
    if life.started is None and not is_job:
        return life.launched
    # Its start may be lost.
    return life.ready if life.started is None else life.started


def _segments(axis: TimeAxis, run: Run, life: Life, lane: str) -> Iterator[Segment]:
    end = end_of(run, life)
    started = start_of(run, life)
    bounds = [
        (WorkerState.PENDING, life.launched, end if started is None else started),
        (WorkerState.SETUP, started, end if life.ready is None else life.ready),
        (WorkerState.IDLE, life.ready, end),
    ]
    for state, since, until in bounds:
        if since is not None and until > since:
            yield Segment(lane, state, since, until, 1.0, life)
    for since, until, share in _busy(axis, life):
        # Bins are wider than what happened in them.
        inside = max(since, life.launched), min(until, end)
        yield Segment(lane, WorkerState.BUSY, *inside, share, life)


def _busy(axis: TimeAxis, life: Life) -> Iterator[tuple[float, float, float]]:
    """Yield since when and until when which share of the time a worker was busy."""
    busy_s: dict[int, float] = defaultdict(float)
    for since, until in united(life):
        first, last = axis.index(since), axis.index(until)
        for i in range(first, last + 1):
            inside = min(until, axis.at(i + 1)) - max(since, axis.at(i))
            busy_s[i] += max(0.0, inside)
    levels = {
        i: math.ceil(min(1.0, s / axis.width_s) * BUSY_LEVELS)
        for i, s in busy_s.items()
    }
    # Neighbours of one level become one; those that are apart differ in the second key.
    by_level = groupby(
        enumerate(sorted(levels)), key=lambda pair: (levels[pair[1]], pair[1] - pair[0])
    )
    for (level, _), group in by_level:
        places = [place for _, place in group]
        if level:
            since, until = axis.at(places[0]), axis.at(places[-1] + 1)
            yield since, until, level / BUSY_LEVELS


def united(life: Life) -> Iterator[tuple[float, float]]:
    """Yield the times in which a worker had any file in hand."""
    pairs = sorted(zip(life.tries[::2], life.tries[1::2], strict=True))
    since = until = -math.inf
    for began, seconds in pairs:
        if began > until:
            if until > since:
                yield since, until
            since = until = began
        until = max(until, began + seconds)
    if until > since:
        yield since, until


def busy_share(run: Run, life: Life) -> float | None:
    """Return in which share of its time, once it was ready, a worker had a file."""
    if life.ready is None or (lived_s := end_of(run, life) - life.ready) <= 0:
        return None
    return min(1.0, sum(until - since for since, until in united(life)) / lived_s)
