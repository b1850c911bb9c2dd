"""How far each file of a run directory is: the one judgement, by a file's results.

An output or `.err` counts if it is not older than its input. The results are the truth,
and not the journal: a crash can come between a result and its record, and plain
Snakemake keeps no record of ours at all. The service asks the file system for each
file; at its start, and for reports, the directories are listed.
Both looks are in this one module, long as it is, so that they cannot differ.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tigerflow.naming import ERROR_EXT, is_result_name
from tigerflow.rundir.plan import Plan, PlannedTask

#: Stem -> time of last change in ns, of the files in one directory.
Times = Mapping[str, int]


class TaskState(StrEnum):
    """How far one task is with one file."""

    PROCESSED = "processed"
    STAGED = "staged"
    FAILED = "failed"
    #: A task before it is not done yet.
    WAITING = "waiting"
    #: A task before it has failed.
    BLOCKED = "blocked"


class Status(StrEnum):
    """What became of a file so far."""

    #: Every output that the pipeline keeps exists.
    DONE = "done"
    #: Nothing is left to do, and at least one task failed.
    FAILED = "failed"
    #: Some output is missing or older than the input.
    UNDONE = "undone"


class FileState(StrEnum):
    """How far the pipeline is with one file, as reports count it."""

    FINISHED = "finished"
    IN_PROGRESS = "in_progress"
    STAGED = "staged"
    ERRORED = "errored"


_TRIED = frozenset({TaskState.PROCESSED, TaskState.FAILED})
#: There is something to do.
UNDONE = frozenset({TaskState.STAGED, TaskState.WAITING})
_WITHOUT_RESULT = frozenset({TaskState.FAILED, TaskState.BLOCKED})


class Look(Protocol):
    """Finds when results were last changed, in ns; None for those that do not exist."""

    def output(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's output."""

    def error(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's `.err`."""


class OnDisk:
    """Asks the file system each time."""

    def __init__(self, run_dir: Path) -> None:
        """Look below `run_dir`."""
        self._run_dir = run_dir

    def output(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's output."""
        return self._date(task.output(stem))

    def error(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's `.err`."""
        return self._date(task.error(stem))

    def _date(self, path: str) -> int | None:
        try:
            status = os.stat(f"{self._run_dir}/{path}")  # noqa: PTH116 -- thousands
        except OSError:
            return None
        return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None


class WithoutErrors:
    """Finds no `.err`: what a file's judgement is if failures do not count."""

    def __init__(self, look: Look) -> None:
        """Find the outputs that `look` finds."""
        self._look = look

    def output(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's output."""
        return self._look.output(task, stem)

    def error(self, _task: PlannedTask, _stem: str) -> int | None:
        """Return None."""
        return None


@dataclass(frozen=True)
class Listed:
    """The files of a run directory, listed once."""

    inputs: Times
    #: By task.
    outputs: Mapping[str, Times]
    errors: Mapping[str, Times]

    @property
    def stems(self) -> list[str]:
        """All stems that have an input, an output or an error, sorted."""
        found = set(self.inputs)
        return sorted(found.union(*self.outputs.values(), *self.errors.values()))

    def output(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's output."""
        return self.outputs[task.name].get(stem)

    def error(self, task: PlannedTask, stem: str) -> int | None:
        """Return the date of a file's `.err`."""
        return self.errors[task.name].get(stem)


def times_in(
    directory: Path,
    extension: str,
    is_one: Callable[[str, str], bool] = is_result_name,
) -> Times:
    """Return the dates of the regular files in a directory that end in `extension`.

    `is_one` tells, by name and extension, which files count. A directory that does not
    exist has none.

    Raises:
        OSError: the directory cannot be listed.
    """
    times: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if is_one(entry.name, extension):
                # It may go between listing and stat; a link may lead nowhere.
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        stem = entry.name.removesuffix(extension)
                        times[stem] = status.st_mtime_ns
    return times


def list_results(
    run_dir: Path, plan: Plan, times: Callable[[Path, str], Times] = times_in
) -> Listed:
    """List the results of all tasks, each directory by `times`; no inputs.

    Raises:
        OSError: a directory cannot be listed.
    """
    return Listed(
        inputs={},
        outputs={
            task.name: times(run_dir / task.results, task.output_ext)
            for task in plan.tasks
        },
        errors={
            task.name: times(run_dir / task.errors, ERROR_EXT) for task in plan.tasks
        },
    )


@dataclass(frozen=True)
class Reach:
    """What a window can make of a file, while some tasks take no more."""

    #: By task: outputs to ask for, relative to the run directory.
    wanted: Mapping[str, str]
    #: The first task that takes no more, if any was met.
    stopped_at: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """How far one file is."""

    plan: Plan
    stem: str
    #: By task, each after the one that it depends on.
    states: Mapping[str, TaskState]
    #: Tasks whose outputs exist and are current, where nothing before them failed.
    made: frozenset[str]

    @property
    def status(self) -> Status:
        """What became of it."""
        if any(self.states[name] in UNDONE for name in self.plan.targets):
            return Status.UNDONE
        has_failed = TaskState.FAILED in self.states.values()
        return Status.FAILED if has_failed else Status.DONE

    @property
    def undone(self) -> Mapping[str, str]:
        """By task: outputs still to be made, relative to the run directory."""
        return {
            task.name: task.output(self.stem)
            for task in self.plan.tasks
            if task.name in self.plan.targets and self.states[task.name] in UNDONE
        }

    @property
    def failed(self) -> tuple[str, ...]:
        """The tasks that failed."""
        return self._tasks_in(TaskState.FAILED)

    @property
    def done(self) -> tuple[str, ...]:
        """The tasks that are done."""
        return self._tasks_in(TaskState.PROCESSED)

    def _tasks_in(self, state: TaskState) -> tuple[str, ...]:
        return tuple(name for name, found in self.states.items() if found is state)

    def file_state(self, *, in_hand: bool) -> FileState:
        """Return how far it is for a report; `in_hand`: a service works on it."""
        if self.status is not Status.UNDONE:
            is_done = self.status is Status.DONE
            return FileState.FINISHED if is_done else FileState.ERRORED
        begun = in_hand or any(state in _TRIED for state in self.states.values())
        return FileState.IN_PROGRESS if begun else FileState.STAGED

    def within_reach(self, crowded: Collection[str]) -> Reach:
        """Return what can be made of it, if it is undone, without the `crowded` tasks.

        Where a branch stops at such a task, the output before it is asked for, so that
        it exists, and stays, for a later window.
        """
        undone = self.undone
        if not crowded:
            return Reach(undone, None)
        plan, made = self.plan, self.made
        needed = {name for task in undone for name in plan.lineage(task)}
        passed: set[str] = set()
        stopped: dict[str, str | None] = {}
        for task in plan.tasks:
            if task.name not in needed or task.depends_on in needed - passed:
                continue
            if task.name in crowded and task.name not in made:
                stopped[task.name] = task.depends_on
            else:
                passed.add(task.name)
        kept = plan.targets
        wanted = passed & ((kept - made) | ({*stopped.values()} - kept))
        outputs = {
            task.name: task.output(self.stem)
            for task in plan.tasks
            if task.name in wanted and wanted - made
        }
        return Reach(outputs, next(iter(stopped), None))


def judge(plan: Plan, look: Look, stem: str, since_ns: int) -> Judgement:
    """Judge one file: an output or an error counts if it is not older than the input.

    An output counts more than an error beside it. An output that is not kept goes when
    all that depends on it is done: these tasks speak for it then.

    Args:
        plan: the tasks.
        look: finds the dates of results.
        stem: of the input file.
        since_ns: when the input file was last changed, in ns.
    """
    states: dict[str, TaskState] = {}
    made: set[str] = set()
    for task in plan.tasks:
        if states.get(task.depends_on or "") in _WITHOUT_RESULT:
            states[task.name] = TaskState.BLOCKED
        elif _is_current(look.output(task, stem), since_ns):
            made.add(task.name)
            states[task.name] = TaskState.PROCESSED
        elif _is_current(look.error(task, stem), since_ns):
            states[task.name] = TaskState.FAILED
        else:
            states[task.name] = TaskState.WAITING
    _infer(plan, states)
    return Judgement(plan, stem, states, frozenset(made))


def _infer(plan: Plan, states: dict[str, TaskState]) -> None:
    for task in reversed(plan.tasks):
        parent, is_tried = task.depends_on, states[task.name] in _TRIED
        if parent is None or parent in plan.targets or not is_tried:
            continue
        if states[parent] is TaskState.WAITING:
            states[parent] = TaskState.PROCESSED
    for task in plan.tasks:
        parent = task.depends_on
        is_ready = parent is None or states[parent] is TaskState.PROCESSED
        if is_ready and states[task.name] is TaskState.WAITING:
            states[task.name] = TaskState.STAGED


def _is_current(date_ns: int | None, since_ns: int) -> bool:
    return date_ns is not None and date_ns >= since_ns
