"""Turn workers' lives into rows of a chart: pending, setting up, idle, busy.

Workers that follow each other share a row. Does no I/O.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from tigerflow.report.page.bins import TimeAxis, axis_of
from tigerflow.report.page.chronicle import Life, Run

#: At most so many bins on the axis of time, in which the busy share is counted.
LANE_BINS = 240

#: How finely the share is drawn in which a worker was busy.
BUSY_LEVELS = 5


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
        for task in run.start.tasks:
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
    is_job = run.start.kinds.get(life.task) == "slurm"
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
    """Yield the times in which a worker processed any file."""
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
