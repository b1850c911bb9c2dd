"""What is still to be done for a file, judged by what stands in the file system.

That, and not the journal, is the truth: a crash can come between a result and its
record, and plain Snakemake keeps no record of ours at all.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tigerflow.naming import error_name, output_name
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.layout import error_directory, result_directory
from tigerflow.rundir.progress import Node, TaskState, judge

#: Path below the run directory -> time of last change in ns, or None.
Mtime = Callable[[str], int | None]


_UNDONE = frozenset({TaskState.STAGED, TaskState.WAITING})


class Status(StrEnum):
    """What became of a file so far."""

    #: Every output that the pipeline keeps is there.
    DONE = "done"
    #: Nothing is left to do, and at least one task failed.
    FAILED = "failed"
    #: Some output is missing or older than the input.
    UNDONE = "undone"


@dataclass(frozen=True)
class Assessment:
    """The state of one file."""

    status: Status
    #: Outputs that are still to be made, relative to the run directory.
    targets: tuple[str, ...]
    #: Tasks that failed.
    failed: tuple[str, ...]
    #: Tasks whose outputs `targets` are.
    undone: tuple[str, ...]
    #: Tasks that are done.
    done: tuple[str, ...]


@dataclass(frozen=True)
class _Task(Node):
    results: Path
    errors: Path
    extension: str

    def output(self, stem: str) -> str:
        """Return the path of a file's output, relative to the run directory."""
        # Not by pathlib: some are made for each file again and again.
        return f"{self.results}/{output_name(stem, self.extension)}"

    def error(self, stem: str) -> str:
        """Return the path of a file's error, relative to the run directory."""
        return f"{self.errors}/{error_name(stem)}"


@dataclass(frozen=True)
class Reach:
    """What a window can make of a file, while some tasks take no more."""

    #: By task: outputs to ask for, relative to the run directory.
    wanted: Mapping[str, str]
    #: The first task that takes no more, if any was met.
    stopped_at: str | None


class Targets:
    """The outputs that a pipeline makes of each file."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Know the outputs of all tasks of `pipeline`."""
        self.input_ext = pipeline.input_ext
        self._tasks = tuple(
            _Task(
                task.name,
                task.spec.depends_on,
                task.spec.keep_output or task.name in pipeline.leaf_names,
                result_directory(task.name, keep_output=task.spec.keep_output),
                error_directory(task.name),
                task.spec.output_ext,
            )
            for task in pipeline.tasks
        )

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where outputs and errors are, relative to the run directory."""
        both = [place for task in self._tasks for place in (task.results, task.errors)]
        return tuple(dict.fromkeys(both))

    def within_reach(
        self, stem: str, since_ns: int, mtime: Mtime, crowded: Collection[str]
    ) -> Reach:
        """Return what can be made of an undone file without the `crowded` tasks.

        Where a branch stops at such a task, the output before it is asked for, so that
        it is there, and stays there, for a later window.
        """
        needed = self._needed(stem, since_ns, mtime)
        passed: set[str] = set()
        made: set[str] = set()
        stopped: dict[str, str | None] = {}
        for task in self._tasks:
            if task.name not in needed or task.parent in needed - passed:
                continue
            if _is_current(task.output(stem), since_ns, mtime):
                made.add(task.name)
            elif task.name in crowded:
                stopped[task.name] = task.parent
                continue
            passed.add(task.name)
        kept = {task.name for task in self._tasks if task.is_target}
        wanted = passed & ((kept - made) | ({*stopped.values()} - kept))
        outputs = {
            task.name: task.output(stem)
            for task in self._tasks
            if task.name in wanted and wanted - made
        }
        return Reach(outputs, next(iter(stopped), None))

    def are_there(
        self, tasks: Collection[str], stem: str, since_ns: int, mtime: Mtime
    ) -> bool:
        """Tell whether these tasks' outputs of a file are all there."""
        return all(
            _is_current(task.output(stem), since_ns, mtime)
            for task in self._tasks
            if task.name in tasks
        )

    def _needed(self, stem: str, since_ns: int, mtime: Mtime) -> set[str]:
        undone = self.assess(stem, since_ns, mtime).undone
        return {name for task in undone for name in self.lineage(task)}

    @property
    def parents(self) -> dict[str, str | None]:
        """The tasks, each after the one that it depends on."""
        return {task.name: task.parent for task in self._tasks}

    def outputs(self, stem: str) -> tuple[str, ...]:
        """Return the paths of all outputs that a file may have."""
        return tuple(task.output(stem) for task in self._tasks)

    def first_outputs(self, stem: str) -> tuple[str, ...]:
        """Return those of the tasks that read the input file itself."""
        return tuple(task.output(stem) for task in self._tasks if task.parent is None)

    def lineage(self, task: str) -> frozenset[str]:
        """Return the task and all that it depends on."""
        parents = self.parents
        names = [task]
        while (parent := parents[names[-1]]) is not None:
            names.append(parent)
        return frozenset(names)

    def results(
        self, stem: str, since: Collection[str] | None = None
    ) -> tuple[Path, ...]:
        """Return all outputs and errors that a file may have.

        Or only those of the tasks `since` and of what depends on them.
        """
        return tuple(
            Path(path)
            for task in self._tasks
            if since is None or not self.lineage(task.name).isdisjoint(since)
            for path in (task.output(stem), task.error(stem))
        )

    def error_path(self, task: str, stem: str) -> Path:
        """Return where the task's error for a file goes."""
        return error_directory(task) / error_name(stem)

    def assess(self, stem: str, since_ns: int, mtime: Mtime) -> Assessment:
        """Judge one file: an output or an error counts if not older than the input."""
        states = judge(
            self._tasks,
            lambda task: _is_current(task.output(stem), since_ns, mtime),
            lambda task: _is_current(task.error(stem), since_ns, mtime),
        )
        undone = {
            task.name: task.output(stem)
            for task in self._tasks
            if task.is_target and states[task.name] in _UNDONE
        }
        failed = _tasks_in(states, TaskState.FAILED)
        finished = Status.FAILED if failed else Status.DONE
        return Assessment(
            status=Status.UNDONE if undone else finished,
            targets=tuple(undone.values()),
            failed=failed,
            undone=tuple(undone),
            done=_tasks_in(states, TaskState.PROCESSED),
        )


def _tasks_in(states: Mapping[str, TaskState], state: TaskState) -> tuple[str, ...]:
    return tuple(name for name, found in states.items() if found is state)


def _is_current(path: str, since_ns: int, mtime: Mtime) -> bool:
    time = mtime(path)
    return time is not None and time >= since_ns


def mtimes_on_disk(run_dir: Path) -> Mtime:
    """Return a look-up that asks the file system each time."""

    def look(path: str) -> int | None:
        try:
            status = os.stat(f"{run_dir}/{path}")  # noqa: PTH116 -- thousands
        except OSError:
            return None
        return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None

    return look


def mtimes_listed(run_dir: Path, directories: tuple[Path, ...]) -> Mtime:
    """Return a look-up that lists the directories once, for many files."""
    listed: dict[str, int] = {}
    for directory in directories:
        try:
            entries = os.scandir(run_dir / directory)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                # A temporary may go between listing and stat.
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        listed[f"{directory}/{entry.name}"] = status.st_mtime_ns
    lookup: Mapping[str, int] = listed
    return lookup.get
