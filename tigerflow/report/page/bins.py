"""Count a run's events in bins of time or duration. Does no I/O.

So a chart stays small, however long the run was.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tigerflow.report.page.chronicle import Run

#: At most so many bins on a time axis, and a decade of a logarithmic one.
TIME_BINS, DECADE_BINS = 120, 10

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


def working_s(stretch: Sequence[Run]) -> float:
    """Return for how many seconds there was a file to process: staged, not settled."""
    total, since, depth = 0.0, 0.0, 0
    for at, now in _depths(stretch):
        if depth:
            total += at - since
        since, depth = at, now
    return total


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
