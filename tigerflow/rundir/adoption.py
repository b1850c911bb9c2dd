"""What the Dask-based TigerFlow, up to 0.3.1, has left in an output directory.

OUT/.tigerflow/.finished/NAME   for each input file that all of its tasks had finished
OUT/.tigerflow/<task>/          logs of a task, and results that are not kept
OUT/.tigerflow/run.pid          a number, and nothing else

Where the last task keeps no output, nothing but the first says that a file is done.
"""

import os
from pathlib import Path

from tigerflow.log import logger
from tigerflow.naming import is_input_name, output_name, stem_of
from tigerflow.rundir.layout import STATE
from tigerflow.rundir.lock import find_running
from tigerflow.rundir.plan import Plan, PlannedTask

FINISHED = STATE / ".finished"

#: What it is called when its files have been taken over.
_TAKEN_OVER = STATE / ".finished-before"


def adopt(run_dir: Path, plan: Plan) -> None:
    """Mark as done what was finished by tasks that keep no output, once.

    A mark has the time at which its file was finished; one that is newer is done again.

    Raises:
        OSError: a mark cannot be made.
    """
    tasks = [task for task in plan.tasks if _was_without_trace(run_dir, plan, task)]
    if not tasks:
        return
    holder = find_running(run_dir / STATE)
    if holder is not None and holder.is_dask_based:
        return
    names = [
        entry.name
        for entry in os.scandir(run_dir / FINISHED)
        if is_input_name(entry.name, plan.input_ext)
    ]
    for task in tasks:
        for name in names:
            _mark(run_dir, plan, task, name)
    (run_dir / FINISHED).rename(run_dir / _TAKEN_OVER)
    logger.info("Files finished by the Dask-based TigerFlow: {}", len(names))


def _was_without_trace(run_dir: Path, plan: Plan, task: PlannedTask) -> bool:
    is_leaf = task.name in plan.leaves
    was_there = (run_dir / STATE / task.name).is_dir()
    return (
        is_leaf and not task.keep_output and was_there and (run_dir / FINISHED).is_dir()
    )


def _mark(run_dir: Path, plan: Plan, task: PlannedTask, name: str) -> None:
    results = run_dir / task.results
    results.mkdir(parents=True, exist_ok=True)
    mark = results / output_name(stem_of(name, plan.input_ext), task.output_ext)
    if not mark.exists():
        time_ns = (run_dir / FINISHED / name).stat().st_mtime_ns
        mark.touch()
        os.utime(mark, ns=(time_ns, time_ns))
