"""The story of one file: how far each task is with it, when it ran, and why it failed.

`stories_json` returns, for each file::

    {file: str, state: str, input: str | null, taken_up: str | null,
     tasks: [{name, state: str, reason: str, result: str | null,
              tries: [{started_at, finished_at: str, duration_ms: float,
                       status: "success" | "error", worker: int, host: str}],
              error: {file, path, timestamp, exception_type, message, traceback,
                      printed: str}}]}

- *state* of a file: as in a report, or *gone* when its input was removed before it was
  done. Of a task: a `StoryState`; *reason* says why it has not run.
- *tries* are those that the journal has, the latest last; plain Snakemake leaves none.
- What there is nothing to say of is null.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tigerflow.naming import snakemake_problem
from tigerflow.report.file_finder import FileFinder
from tigerflow.report.from_journal import read_run
from tigerflow.report.reading import Sources, as_failure
from tigerflow.report.run_report import Failure, Timing
from tigerflow.rundir.events import (
    Event,
    FilesStaged,
    RunStarted,
    TaskDone,
    TaskTried,
    WorkerChanged,
    WorkerState,
)
from tigerflow.rundir.judgement import FileState, Judgement, TaskState, judge
from tigerflow.rundir.layout import INPUT_LINK
from tigerflow.rundir.live import read_running
from tigerflow.rundir.plan import Plan, PlannedTask

#: State of a file whose input was removed before it was done.
GONE = "gone"


class StoryState(StrEnum):
    """How far a task is with a file, for its reader."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"
    #: A running service has it, and no worker processes it yet.
    QUEUED = "queued"
    #: No running service has it.
    NOT_DONE = "not done"


@dataclass(frozen=True)
class Try:
    """One run of a task on a file."""

    timing: Timing
    #: Its worker's number, and host; None and "" if nobody knows.
    worker: int | None
    host: str


@dataclass(frozen=True)
class TaskStory:
    """What one task has made of a file."""

    name: str
    state: StoryState
    #: Why it has not run, if there is something to say.
    reason: str | None
    #: The number of the worker that processes it now.
    worker: int | None
    #: The latest last.
    tries: Sequence[Try]
    #: Its output, if that is there.
    result: Path | None
    failure: Failure | None


@dataclass(frozen=True)
class FileStory:
    """A file of a run."""

    name: str
    #: A `FileState`, or `GONE`.
    state: str
    #: The input file, if that is there.
    input: Path | None
    #: When the service last took it up: UTC, ISO 8601.
    taken_up: str | None
    tasks: Sequence[TaskStory]


@dataclass
class _Past:
    """What the journal says of some files."""

    #: By task and stem.
    tries: dict[tuple[str, str], list[Try]] = field(default_factory=dict)
    #: By name of the input file.
    taken_up: dict[str, str] = field(default_factory=dict)
    _hosts: dict[tuple[str, int], str] = field(default_factory=dict)
    _host: str = ""

    def take(self, event: Event) -> None:
        """Note an event of the journal."""
        match event:
            case RunStarted():
                self._host = event.host
                self._hosts.clear()
            case FilesStaged() if event.at:
                self.taken_up.update(dict.fromkeys(event.files, event.at))
            case WorkerChanged(state=WorkerState.STARTED):
                self._hosts[event.task, event.worker] = event.note
            case TaskTried(task=task, file=stem, seconds=float() | int() as seconds):
                started = event.started or event.at
                timing = Timing(started, seconds, isinstance(event, TaskDone))
                host = self._hosts.get((task, event.worker), self._host)
                found = self.tries.setdefault((task, stem), [])
                found.append(Try(timing, event.worker or None, host))
            case _:
                pass


def read_stories(
    output_dir: Path, names: Iterable[str]
) -> tuple[list[FileStory], tuple[str, ...]]:
    """Return the stories of some files, and sentences on what the journal lacks.

    A name is that of an input file, a result or an `.err`, or a path of one, or what
    these names begin with: the stem.

    Raises:
        NoRunError: the directory is none of a run.
        PlanError: it is one, of which nothing can be said.
        UnknownFileError: the run has no file of a name.
    """
    past = _Past()
    sources = read_run(output_dir, past.take)
    finder = FileFinder(sources)
    stems = dict.fromkeys(map(finder.stem_of, names))
    teller = _Teller(sources, past)
    return [teller.story(stem) for stem in stems], sources.notes


def stories_json(stories: Sequence[FileStory]) -> list[dict[str, Any]]:
    """Return stories as JSON values; see the module's docstring."""
    return [
        {
            "file": story.name,
            "state": story.state,
            "input": story.input and str(story.input),
            "taken_up": story.taken_up,
            "tasks": [_task_json(task) for task in story.tasks],
        }
        for story in stories
    ]


def _task_json(task: TaskStory) -> dict[str, Any]:
    failure = task.failure
    return {
        "name": task.name,
        "state": task.state,
        "reason": task.reason,
        "result": task.result and str(task.result),
        "tries": [
            {
                "started_at": each.timing.started,
                "finished_at": each.timing.finished,
                "duration_ms": each.timing.milliseconds,
                "status": "success" if each.timing.succeeded else "error",
                "worker": each.worker,
                "host": each.host or None,
            }
            for each in task.tries
        ],
        "error": failure and {**asdict(failure.read()), "printed": failure.printed()},
    }


class _Teller:
    """Tells the story of a file."""

    def __init__(self, sources: Sources, past: _Past) -> None:
        self._sources = sources
        self._plan: Plan = sources.plan
        self._past = past
        self._running = read_running(sources.place, sources.holder)
        stopped = sources.journaled.stopped
        #: Why a task cannot run, by name.
        self._stopped = {
            name: reason
            for first, reason in stopped.items()
            for name in sources.plan.reach([first])
        }
        self._inputs = Path(os.path.realpath(sources.place / INPUT_LINK))

    def story(self, stem: str) -> FileStory:
        name = stem + self._plan.input_ext
        has_input = stem in self._sources.listed.inputs
        judged = self._judged(stem)
        states = judged.states
        in_hand = self._sources.holder is not None and (
            name in self._sources.journaled.in_hand
        )
        state: str = judged.file_state(in_hand=in_hand)
        if state in {FileState.STAGED, FileState.IN_PROGRESS} and not has_input:
            state = GONE
        return FileStory(
            name,
            state,
            self._inputs / name if has_input else None,
            self._past.taken_up.get(name),
            [
                self._task(task, stem, states, in_hand=in_hand)
                for task in self._plan.tasks
            ],
        )

    def _judged(self, stem: str) -> Judgement:
        listed = self._sources.listed
        if snakemake_problem(stem) is None:
            return judge(self._plan, listed, stem, listed.inputs.get(stem, 0))
        states = {task.name: TaskState.BLOCKED for task in self._plan.tasks}
        states[self._plan.tasks[0].name] = TaskState.FAILED
        return Judgement(self._plan, stem, states, frozenset())

    def _task(
        self,
        task: PlannedTask,
        stem: str,
        states: Mapping[str, TaskState],
        *,
        in_hand: bool,
    ) -> TaskStory:
        sources, worker = self._sources, self._running.get(task.name, {}).get(stem)
        state, reason = self._state(task, states, in_hand=in_hand, worker=worker)
        failure = None
        if states[task.name] is TaskState.FAILED:
            listed = sources.listed
            failure = as_failure(sources.place, self._plan, task, listed, stem)
        result = sources.place / task.output(stem)
        has_result = state is StoryState.DONE and os.path.lexists(result)
        return TaskStory(
            name=task.name,
            state=state,
            reason=reason,
            worker=worker,
            tries=self._past.tries.get((task.name, stem), ()),
            result=result if has_result else None,
            failure=failure,
        )

    def _state(
        self,
        task: PlannedTask,
        states: Mapping[str, TaskState],
        *,
        in_hand: bool,
        worker: int | None,
    ) -> tuple[StoryState, str | None]:
        match states[task.name]:
            case TaskState.PROCESSED:
                return StoryState.DONE, None
            case TaskState.FAILED:
                return StoryState.FAILED, None
            case TaskState.BLOCKED:
                return StoryState.NOT_DONE, f"{self._failed(task, states)} failed"
            case TaskState.STAGED | TaskState.WAITING:
                return self._open(task, states, in_hand=in_hand, worker=worker)

    def _open(
        self,
        task: PlannedTask,
        states: Mapping[str, TaskState],
        *,
        in_hand: bool,
        worker: int | None,
    ) -> tuple[StoryState, str | None]:
        """Return the state of a task that can still process the file."""
        if worker is not None:
            return StoryState.RUNNING, None
        if task.name in self._stopped:
            return StoryState.NOT_DONE, f"stopped: {self._stopped[task.name]}"
        waits = states[task.name] is TaskState.WAITING
        reason = f"it waits for {task.depends_on}" if waits else None
        return (StoryState.QUEUED if in_hand else StoryState.NOT_DONE), reason

    def _failed(self, task: PlannedTask, states: Mapping[str, TaskState]) -> str:
        """Return the task before this one that failed."""
        parents = {each.name: each.depends_on for each in self._plan.tasks}
        name = task.depends_on
        while name and states[name] is not TaskState.FAILED:
            name = parents[name]
        return name or ""
