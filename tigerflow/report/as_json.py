"""A report as JSON: what `tigerflow report --json` prints.

`as_json` returns these keys; counts are of input files, each in one state only::

    status    {running: bool, pid: int | null}
    progress  {pipeline: {finished, in_progress, staged, errored, total: int},
               tasks: [{name: str, processed, staged, failed: int, stopped: str}]}
    metrics   {task: {count: int, avg_ms, min_ms, max_ms: float, durations: [float],
                      files: [{file, started_at, finished_at: str,
                               duration_ms: float, status: "success" | "error"}]}}
    errors    {task: [{file, path: str, timestamp: str | null,
                       exception_type, message, traceback: str}]}
    running   {task: [file: str]}: what workers process just now; the key is left out if
              that is nothing, and so are tasks
    notes     [str]: what is wrong with the journal; the key is left out if nothing is

- *finished*: every output that the pipeline keeps is there. *errored*: nothing is left
  to do, and at least one task failed. *in_progress*: a running service has it
  (*running*, or queued), or it has some of its results (partly done). *staged*: not
  begun, or held up by a task that cannot run. *total*: the sum of the four.
- A task's *staged* files wait for it, or are with it: what comes before is done.
- *stopped*: why a task could not run in the last run; the key is left out if it could.
- *tasks*: each after the one it depends on. *metrics* and *errors* have only tasks with
  some. *count* to *durations* are of successes, in milliseconds; of each file, *files*
  has the last try. *file* is the name of the task's input file. Times are ISO 8601,
  UTC.
"""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from tigerflow.report.run_report import RunReport, TaskReport

SECTIONS = ("status", "progress", "metrics", "errors")


def as_json(report: RunReport, sections: Collection[str] = SECTIONS) -> dict[str, Any]:
    """Return the report as JSON values; see the module's docstring."""
    makers = {
        "status": _status,
        "progress": _progress,
        "metrics": _metrics,
        "errors": _errors,
    }
    values = {name: makers[name](report) for name in SECTIONS if name in sections}
    if "progress" in sections and report.running:
        values["running"] = {
            task.name: [stem + task.input_ext for stem in task.running]
            for task in report.tasks
            if task.running
        }
    return values | ({"notes": list(report.notes)} if report.notes else {})


def _status(report: RunReport) -> dict[str, Any]:
    holder = report.holder
    return {"running": holder is not None, "pid": holder.pid if holder else None}


def _progress(report: RunReport) -> dict[str, Any]:
    counts = {state.value: count for state, count in report.files.items()}
    tasks = [
        {
            "name": task.name,
            "processed": task.processed,
            "staged": task.staged,
            "failed": task.failed,
        }
        | ({} if task.stopped is None else {"stopped": task.stopped})
        for task in report.tasks
    ]
    return {"pipeline": {**counts, "total": report.total}, "tasks": tasks}


def _metrics(report: RunReport) -> dict[str, Any]:
    return {task.name: _task_metrics(task) for task in report.tasks if task.timings}


def _task_metrics(task: TaskReport) -> dict[str, Any]:
    durations = task.durations_ms
    return {
        "count": len(durations),
        "avg_ms": sum(durations) / len(durations) if durations else 0,
        "min_ms": min(durations, default=0),
        "max_ms": max(durations, default=0),
        "durations": durations,
        "files": [
            {
                "file": stem + task.input_ext,
                "started_at": timing.started,
                "finished_at": timing.finished,
                "duration_ms": timing.milliseconds,
                "status": "success" if timing.succeeded else "error",
            }
            for stem, timing in task.timings.items()
        ],
    }


def _errors(report: RunReport) -> dict[str, Any]:
    return {
        task.name: [asdict(failure.read()) for failure in task.failures]
        for task in report.tasks
        if task.failures
    }
