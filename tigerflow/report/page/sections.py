"""The numbers and charts of each section of a page.

Decides which runs are shown, and counts rates, medians and slowest files from a report
and a `chronicle`; counts for charts come from `bins` and `lanes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tigerflow.report.page import charts, shown
from tigerflow.report.page.bins import (
    Moment,
    duration_bins,
    moments,
    quantile,
    working_s,
)
from tigerflow.report.page.chronicle import Run, busiest_stretch
from tigerflow.report.page.lanes import Lanes, busy_share, end_of, lanes
from tigerflow.report.run_report import RunReport, TaskReport
from tigerflow.rundir.events import RunStarted
from tigerflow.rundir.plan import Plan, PlannedTask

#: More are counted only.
LANES_SHOWN, WORKERS_SHOWN, RUNS_SHOWN, SLOWEST_SHOWN = 40, 200, 20, 10


@dataclass(frozen=True)
class TaskNode:
    """A task in the graph, with those that depend on it."""

    task: PlannedTask
    report: TaskReport
    kind: str
    children: tuple["TaskNode", ...]


@dataclass(frozen=True)
class DurationRow:
    """How long the files of a task took, in seconds."""

    task: str
    count: int
    median: float
    most: float
    longest: float
    chart: charts.Spec


@dataclass(frozen=True)
class SlowFile:
    """One of the tries that took longest."""

    task: str
    file: str
    seconds: float
    began: float
    succeeded: bool
    #: Of the longest of all.
    share: float


@dataclass(frozen=True)
class WorkerRow:
    """One worker's life, in words."""

    task: str
    launched: float
    lived_s: float
    setup_s: float | None
    busy: float | None
    files: int
    host: str
    how: str


@dataclass(frozen=True)
class TaskFacts:
    """What was run: a task's class, and what it was given."""

    task: str
    kind: str
    module: str
    version: str
    params: Sequence[tuple[str, str]]
    #: Those that were left at their default.
    defaults: Sequence[tuple[str, str]]


def graph(report: RunReport, plan: Plan, runs: Sequence[Run]) -> tuple[TaskNode, ...]:
    """Return the tasks that start from the input directory, and all below them."""
    by_name = {task.name: task for task in report.tasks}
    kinds = runs[-1].start.kinds if runs else {}

    def below(parent: str | None) -> tuple[TaskNode, ...]:
        return tuple(
            TaskNode(
                task,
                by_name[task.name],
                str(kinds.get(task.name, "")),
                below(task.name),
            )
            for task in plan.tasks
            if task.depends_on == parent
        )

    return below(None)


def facts(plan: Plan, runs: Sequence[Run]) -> list[TaskFacts]:
    """Return what the last run said of its tasks; of older ones, that is nothing."""
    start = runs[-1].start if runs else RunStarted()
    return [
        TaskFacts(
            task.name,
            str(start.kinds.get(task.name, shown.NONE)),
            str(start.modules.get(task.name, shown.NONE)),
            str(start.versions.get(task.name, shown.NONE)),
            _params(start.params.get(task.name)),
            _params(start.defaults.get(task.name)),
        )
        for task in plan.tasks
    ]


def _params(found: object) -> list[tuple[str, str]]:
    pairs = found.items() if isinstance(found, dict) else ()
    return [(name, shown.param(name, value)) for name, value in pairs]


def over_time(report: RunReport, plan: Plan, runs: Sequence[Run]) -> Mapping[str, Any]:
    """Return what the page's template takes of the runs, by its names there."""
    stretch = busiest_stretch([*runs])
    times = moments(stretch) if stretch else []
    settled = sum(moment.done + moment.failed for moment in times)
    lasted_s = stretch[-1].last - stretch[0].began if stretch else 0.0
    # If the journal does not say when files were staged, all time counts.
    worked_s = working_s(stretch) or lasted_s
    return {
        "runs": list(reversed(runs))[:RUNS_SHOWN],
        "runs_count": len(runs),
        "stretch": stretch,
        "worked_s": worked_s,
        "idle_s": lasted_s - worked_s,
        "settled": settled,
        "speed": settled / worked_s if worked_s > 0 else 0.0,
        "moments": [each for each in times if each.done or each.failed or each.depth],
        "throughput": charts.throughput(times) if settled else None,
        "depth": charts.queue_depth(times) if any(m.depth for m in times) else None,
        "durations": _durations(plan, runs),
        "slowest": _slowest(plan, report, runs),
        **_workers(stretch, times),
    }


def _durations(plan: Plan, runs: Sequence[Run]) -> list[DurationRow]:
    tries = {
        task.name: [
            (seconds, bool(succeeded))
            for run in runs
            if task.name in run.tries
            for seconds, succeeded in zip(
                run.tries[task.name].seconds,
                run.tries[task.name].succeeded,
                strict=True,
            )
        ]
        for task in plan.tasks
    }
    bins = {task: duration_bins(found) for task, found in tries.items() if found}
    if not bins:
        return []
    domain = (
        min(found[0].least_s for found in bins.values()),
        max(found[-1].most_s for found in bins.values()),
    )
    rows = []
    for task, found in bins.items():
        seconds = sorted(each for each, _ in tries[task])
        median = quantile(seconds, 0.5)
        rows.append(
            DurationRow(
                task,
                len(seconds),
                median,
                quantile(seconds, 0.95),
                seconds[-1],
                charts.durations(task, found, domain, median),
            )
        )
    return rows


def _slowest(plan: Plan, report: RunReport, runs: Sequence[Run]) -> list[SlowFile]:
    extensions = {task.name: task.input_ext for task in report.tasks}
    found = sorted(
        (
            (seconds, task.name, stem, began, succeeded)
            for run in runs
            for task in plan.tasks
            if task.name in run.tries
            for seconds, began, stem, succeeded in run.tries[task.name].slowest
        ),
        reverse=True,
    )[:SLOWEST_SHOWN]
    return [
        SlowFile(
            task,
            stem + extensions[task],
            seconds,
            began,
            succeeded,
            seconds / found[0][0] if found[0][0] else 0.0,
        )
        for seconds, task, stem, began, succeeded in found
    ]


def _workers(stretch: Sequence[Run], times: Sequence[Moment]) -> Mapping[str, Any]:
    all_lanes = lanes(stretch) if stretch else Lanes((), ())
    names = all_lanes.names[:LANES_SHOWN]
    kept = frozenset(names)
    segments = tuple(each for each in all_lanes.segments if each.lane in kept)
    rows = [
        WorkerRow(
            life.task,
            life.launched,
            end_of(run, life) - life.launched,
            None
            if life.ready is None
            else life.ready - (life.started or life.launched),
            busy_share(run, life),
            len(life.tries) // 2,
            life.host,
            life.how,
        )
        for run in stretch
        for life in run.lives.values()
    ]
    return {
        "workers": charts.workers(Lanes(names, segments), times) if segments else None,
        "lanes_left_out": len(all_lanes.names) - len(names),
        "worker_rows": rows[:WORKERS_SHOWN],
        "worker_count": len(rows),
    }
