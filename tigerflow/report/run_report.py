"""What stands in a run directory, as one report, whether or not a service runs.

How far each file is, the file system says, as it does for the service itself: so plain
Snakemake's work is counted like the service's. The journal adds what files cannot tell:
how long each took, and which of them a running service has in hand. A journal that is
torn or not there takes away only that.

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
  to do, and at least one task failed. *in_progress*: a running service has it in hand
  (*running*, or queued), or it has some of its results (partly done). *staged*: not
  begun, or held up by a task that cannot run. *total*: the sum of the four.
- A task's *staged* files wait for it, or are with it: what comes before is done.
- *stopped*: why a task could not run in the last run; the key is left out if it could.
- *tasks*: each after the one it depends on. *metrics* and *errors* have only tasks with
  some. *count* to *durations* are of successes, in milliseconds; of each file, *files*
  has the last try. *file* is the name of the task's input file. Times are ISO 8601,
  UTC.
"""

import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tigerflow import __version__
from tigerflow.errors import PlanError
from tigerflow.files import read_regular
from tigerflow.naming import (
    is_input_name,
    is_result_name,
    snakemake_problem,
)
from tigerflow.rundir.events import (
    Event,
    FileForgotten,
    FileSettled,
    FilesStaged,
    RunStarted,
    TaskDone,
    TaskStopped,
    TaskTried,
    UnknownEvent,
)
from tigerflow.rundir.journal import read
from tigerflow.rundir.judgement import (
    UNDONE,
    FileState,
    Listed,
    TaskState,
    Times,
    judge,
    list_results,
    times_in,
)
from tigerflow.rundir.layout import INPUT_LINK, JOURNAL, PLAN, STATE
from tigerflow.rundir.live import read_running
from tigerflow.rundir.lock import Holder, find_running
from tigerflow.rundir.plan import Plan, PlannedTask, read_plan

#: Bytes of an `.err` that are read, and characters of each of its texts in a report.
ERROR_LIMIT, SHOWN_LIMIT = 1 << 24, 20_000

#: Characters of a version that are shown.
VERSION_LIMIT = 40

SECTIONS = ("status", "progress", "metrics", "errors")


@dataclass(frozen=True, slots=True)
class Timing:
    """A task's last try at a file."""

    #: UTC, ISO 8601 with offset.
    started: str
    seconds: float
    succeeded: bool

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return round(1000 * self.seconds, 3)

    @property
    def finished(self) -> str:
        """When it ended, as `started`."""
        try:
            started = datetime.fromisoformat(self.started)
            return (started + timedelta(seconds=self.seconds)).isoformat()
        except (ValueError, OverflowError):
            return self.started


@dataclass(frozen=True)
class ErrorText:
    """What an `.err` says; the keys of the JSON."""

    file: str
    path: str
    timestamp: str | None
    exception_type: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Failure:
    """A file that a task failed on, or that Snakemake cannot carry."""

    stem: str
    #: The names of the pipeline's and of the task's input file.
    origin: str
    file: str
    #: The `.err`; without one, the input file.
    path: Path
    #: Why Snakemake cannot carry the file, which has no `.err` then.
    problem: str | None
    #: Whether the pipeline's input file is still there.
    has_input: bool

    def printed(self) -> str:
        """Return what the task printed for the file, or the end of it."""
        return _text_in(_read_error(self.path)[1], "printed")

    def read(self) -> ErrorText:
        """Read the `.err`, also one that is not of our making, or has gone."""
        if self.problem is not None:
            kind = "UnusableName"
            return ErrorText(
                self.file, str(self.path), None, kind, f"{self.problem}; rename it", ""
            )
        text, found = _read_error(self.path)
        timestamp = found.get("timestamp")
        return ErrorText(
            file=_text_in(found, "file", self.file),
            path=str(self.path),
            timestamp=timestamp if isinstance(timestamp, str) else None,
            exception_type=_text_in(found, "exception_type"),
            message=_text_in(found, "message", text),
            traceback=_text_in(found, "traceback"),
        )


def _read_error(path: Path) -> tuple[str, dict[str, Any]]:
    """Return what an `.err` has, and its values if it is one of ours."""
    try:
        text, size = read_regular(path, ERROR_LIMIT)
    except FileNotFoundError:
        return "", {}
    except OSError as error:
        return f"it cannot be read: {error.strerror}", {}
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text) if size <= ERROR_LIMIT else None
        return text, value if isinstance(value, dict) else {}
    return text, {}


def _text_in(found: Mapping[str, Any], key: str, default: str = "") -> str:
    """Return a text of an `.err`, or as much of it as anybody reads."""
    value = found.get(key)
    text = value if isinstance(value, str) else default
    if len(text) <= SHOWN_LIMIT:
        return text
    # The end of a traceback says most.
    half = SHOWN_LIMIT // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half} characters) …\n{text[-half:]}"


@dataclass(frozen=True)
class TaskReport:
    """One task: its counts of files, and what there is to say of each."""

    name: str
    input_ext: str
    processed: int
    staged: int
    #: By stem, the latest last.
    timings: Mapping[str, Timing]
    failures: tuple[Failure, ...]
    #: The stems of files that its workers process just now.
    running: tuple[str, ...] = ()
    #: Why it could not run in the last run; None if it could.
    stopped: str | None = None

    @property
    def failed(self) -> int:
        """How many files failed."""
        return len(self.failures)

    @property
    def durations_ms(self) -> list[float]:
        """How long each success took, the latest last."""
        timings = self.timings.values()
        return [each.milliseconds for each in timings if each.succeeded]


@dataclass(frozen=True)
class RunReport:
    """A run directory at one moment."""

    #: Absolute.
    output_dir: Path
    #: The service that runs, or None.
    holder: Holder | None
    files: Mapping[FileState, int]
    tasks: tuple[TaskReport, ...]
    #: How many of the files in progress a worker processes just now, and how many the
    #: service has in hand beside these. Of the others, some tasks are done.
    running: int = 0
    queued: int = 0
    #: Sentences on what of the journal is missing.
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many files there are."""
        return sum(self.files.values())


@dataclass
class Journaled:
    """What a journal adds to the file system."""

    #: Task -> stem -> the last try, the latest last.
    timings: dict[str, dict[str, Timing]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    #: Names of the files that the last service took and has not settled.
    in_hand: set[str] = field(default_factory=set)
    #: Task -> why it could not run in the last run.
    stopped: dict[str, str] = field(default_factory=dict)
    #: Of the TigerFlow that wrote last; "" if unknown.
    version: str = ""
    #: How many events are of kinds that only others know.
    unknown: int = 0


def read_report(
    output_dir: Path, witness: Callable[[Event], None] = lambda _event: None
) -> RunReport:
    """Read a run directory; `witness` sees each event of its journal.

    Raises:
        NoRunError: it is none.
        PlanError: its plan cannot be read; see `salvage`.
    """
    return read_sources(output_dir, witness).report


@dataclass(frozen=True)
class Sources:
    """What is known of a run directory, from which reports are made."""

    #: The directory, absolute.
    place: Path
    plan: Plan
    listed: Listed
    journaled: Journaled
    holder: Holder | None
    notes: tuple[str, ...]

    @property
    def report(self) -> RunReport:
        """All files, by task and state."""
        report = build_report(
            self.place, self.plan, self.listed, self.journaled, self.holder
        )
        return replace(report, notes=self.notes)


def read_sources(output_dir: Path, witness: Callable[[Event], None]) -> Sources:
    """Read a run directory, as `read_report`."""
    plan = find_plan(output_dir)
    place = Path(os.path.abspath(output_dir))  # noqa: PTH100 -- resolve() follows links
    holder = find_running(place / STATE)
    journaled, notes = read_journal(place / JOURNAL, witness, is_written=bool(holder))
    listed = list_files(place, plan)
    return Sources(place, plan, listed, journaled, holder, notes)


def find_plan(output_dir: Path) -> Plan:
    """Return the plan of a run directory, as `read_plan`.

    Raises:
        NoRunError: it is none.
        PlanError: the plan cannot be read; the versions are named when it is newer.
    """
    try:
        return read_plan(output_dir)
    except PlanError as error:
        path = output_dir / JOURNAL
        journaled, _ = read_journal(path, lambda _event: None, is_written=False)
        if not _is_newer(journaled.version):
            raise
        reason = (
            f"the run is of TigerFlow {journaled.version}, which is newer than this "
            f"{__version__}; update this one"
        )
        raise PlanError(output_dir / PLAN, reason) from error


def read_journal(
    path: Path, witness: Callable[[Event], None], *, is_written: bool
) -> tuple[Journaled, tuple[str, ...]]:
    """Return what a journal comes to, and sentences on what it lacks."""
    found = Journaled()
    torn: list[str] = []
    notes: list[str] = []
    try:
        events = seen_by(witness, read(path, torn.append))
        digest(events, found)
    except OSError as error:
        reason = error.strerror or str(error)
        notes.append(f"The journal cannot be read ({reason}): there are no times.")
    if is_written and torn and not torn[-1].endswith("\n"):
        # It is being written just now.
        torn.pop()
    if torn:
        lines = "1 line" if len(torn) == 1 else f"{len(torn)} lines"
        notes.append(f"The journal has {lines} that cannot be read, left out here.")
    if (newer := found.version) and _is_newer(newer):
        notes.append(
            f"The run is of TigerFlow {newer}, which is newer than this {__version__}: "
            "what only that knows is not shown."
        )
    elif found.unknown:
        notes.append(
            f"The journal has entries of a kind unknown here ({found.unknown}), "
            f"left out: probably, a newer TigerFlow than this {__version__} wrote "
            "them; update this one."
        )
    return found, tuple(notes)


def _is_newer(version: str) -> bool:
    """Tell whether a version is later than this one, by its leading numbers."""
    this, other = (
        [int(number) for number in re.findall(r"\d{1,9}", text)[:3]]
        for text in (__version__, version)
    )
    return other > this


def seen_by(
    witness: Callable[[Event], None], events: Iterable[Event]
) -> Iterator[Event]:
    """Yield the events, each after `witness` has seen it."""
    for event in events:
        witness(event)
        yield event


def digest(events: Iterable[Event], found: Journaled | None = None) -> Journaled:
    """Return what a journal's events come to; those of other forms are left out.

    They are added to `found`, so that what was read before an error counts.
    """
    found = found or Journaled()
    for event in events:
        match event:
            case TaskTried(task=task, file=stem, seconds=float() | int() as seconds):
                # At the end, also when it was tried before.
                found.timings[task].pop(stem, None)
                started = event.started or event.at
                succeeded = isinstance(event, TaskDone)
                found.timings[task][stem] = Timing(started, seconds, succeeded)
            case FileSettled(file=name) | FileForgotten(file=name):
                found.in_hand.discard(name)
            case FilesStaged():
                found.in_hand.update(event.files)
            case TaskStopped():
                found.stopped[event.task] = event.reason
            case RunStarted():
                found.in_hand.clear()
                found.stopped.clear()
                found.version = str(event.version)[:VERSION_LIMIT]
            case UnknownEvent():
                found.unknown += 1
            case _:
                pass
    return found


def list_files(run_dir: Path, plan: Plan) -> Listed:
    """List the input directory and those of the results; one that is gone is empty."""
    inputs = readable_times(run_dir / INPUT_LINK, plan.input_ext, is_input_name)
    return replace(list_results(run_dir, plan, readable_times), inputs=inputs)


def readable_times(
    directory: Path,
    extension: str,
    is_one: Callable[[str, str], bool] = is_result_name,
) -> Times:
    """Return what `times_in` does; a directory that cannot be listed is empty."""
    try:
        return times_in(directory, extension, is_one)
    except OSError:
        return {}


def build_report(
    place: Path,
    plan: Plan,
    listed: Listed,
    journaled: Journaled,
    holder: Holder | None,
) -> RunReport:
    """Join what is known of a run; `place` is its absolute path."""
    in_hand = journaled.in_hand if holder else frozenset()
    sorting = _Sorting(plan, listed, in_hand, journaled.stopped)
    for stem in listed.stems:
        sorting.add(stem)
    live = read_running(place, holder)
    tasks = []
    for task in plan.tasks:
        failed = sorting.stems[task.name, TaskState.FAILED]
        report = TaskReport(
            name=task.name,
            input_ext=plan.input_ext_of(task),
            processed=len(sorting.stems[task.name, TaskState.PROCESSED]),
            staged=len(sorting.stems[task.name, TaskState.STAGED]),
            timings=journaled.timings.get(task.name, {}),
            failures=tuple(as_failure(place, plan, task, listed, s) for s in failed),
            running=tuple(live.get(task.name, ())),
            stopped=journaled.stopped.get(task.name),
        )
        tasks.append(report)
    stems = {stem for by_worker in live.values() for stem in by_worker}
    running = len(stems & sorting.in_hand)
    queued = len(sorting.in_hand) - running
    return RunReport(place, holder, sorting.files, tuple(tasks), running, queued)


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


class _Sorting:
    """The files of a run, by state."""

    def __init__(
        self,
        plan: Plan,
        listed: Listed,
        in_hand: Collection[str],
        stopped: Iterable[str],
    ) -> None:
        self.files = dict.fromkeys(FileState, 0)
        #: By task and state.
        self.stems: dict[tuple[str, TaskState], list[str]] = defaultdict(list)
        self._plan = plan
        self._listed = listed
        self._in_hand = in_hand
        #: Stems of files that a service has in hand, with work to do.
        self.in_hand: set[str] = set()
        #: The tasks that can run, and none before them cannot.
        self._able = {task.name for task in plan.tasks} - plan.reach(stopped)

    def add(self, stem: str) -> None:
        if snakemake_problem(stem) is not None:
            self.files[FileState.ERRORED] += 1
            self.stems[self._plan.tasks[0].name, TaskState.FAILED].append(stem)
            return
        since_ns = self._listed.inputs.get(stem, 0)
        found = judge(self._plan, self._listed, stem, since_ns)
        in_hand = stem + self._plan.input_ext in self._in_hand and any(
            found.states[task] in UNDONE for task in self._able
        )
        state = found.file_state(in_hand=in_hand)
        unfinished = state in {FileState.STAGED, FileState.IN_PROGRESS}
        if unfinished and stem not in self._listed.inputs:
            # Its input is gone: nothing will become of it any more.
            return
        self.files[state] += 1
        if in_hand and state is FileState.IN_PROGRESS:
            self.in_hand.add(stem)
        for each in found.states.items():
            self.stems[each].append(stem)


def as_failure(
    place: Path, plan: Plan, task: PlannedTask, listed: Listed, stem: str
) -> Failure:
    """Return where to read why a task failed on a file."""
    origin = stem + plan.input_ext
    problem = snakemake_problem(stem)
    error = place / task.error(stem)
    return Failure(
        stem=stem,
        origin=origin,
        file=stem + plan.input_ext_of(task),
        path=error if problem is None else place / INPUT_LINK / origin,
        problem=problem,
        has_input=stem in listed.inputs,
    )


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
