"""What can happen in a run: one class per event of the journal.

In the journal, an event is one JSON object: `event` (its `name` here), `at`, and the
fields of its class. Its fields say what form their values have, for writers, readers
and type checkers alike; a field without a default was written by all versions.

Journals outlive versions, in both directions. What an earlier one did not write has its
default. Of a later one, keys that are not known here are left out, and events that are
not known are `UnknownEvent`; `RunStarted.format` is raised when a known key changes its
meaning. All of it is in one module, long as it is, since it is one schema.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar

#: Of the journals that this version writes; 0: none was written, up to version 0.3.1.
FORMAT = 1

#: Task -> a value of it.
ByTask = Mapping[str, Any]


class WorkerState(StrEnum):
    """What becomes of a worker, in this order; it may end at any time."""

    #: Its process is started, or its job submitted.
    LAUNCHED = "launched"
    #: Of one in a job: the job runs. The note names its host.
    STARTED = "started"
    #: It has set up.
    READY = "ready"
    #: The note says how.
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything that happens. Those with a name stand in journals."""

    name: ClassVar[str] = ""
    #: When: UTC, ISO 8601 with offset; empty until it is written.
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A service has started; all that follows happened in its run."""

    name = "run_started"
    #: See `FORMAT`.
    format: int = 0
    pid: int = 0
    #: Where it runs.
    host: str = ""
    #: Of TigerFlow, Python and Snakemake.
    version: object = ""
    python: str = ""
    snakemake: str = ""
    #: The task that each depends on, or None; in the pipeline's order.
    tasks: ByTask = field(default_factory=dict)
    #: Changes with the code and the params of a task.
    versions: ByTask = field(default_factory=dict)
    #: `local`, `local_async` or `slurm`.
    kinds: ByTask = field(default_factory=dict)
    #: As in the pipeline file, or the path of the module.
    modules: ByTask = field(default_factory=dict)
    #: Param -> its value as text, or a list of such: of those that were given, and of
    #: the others.
    params: ByTask = field(default_factory=dict)
    defaults: ByTask = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesTaken(Event):
    """Input files, and of which content they are."""

    #: Their names in the input directory.
    files: Sequence[str]
    #: Of each, a pair: its size in bytes, and its last change, in ns since the epoch.
    signatures: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesStaged(FilesTaken):
    """Files began to be processed."""

    name = "staged"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesFound(FilesTaken):
    """Files had all their results already."""

    name = "found"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTried(Event):
    """A worker has ended its try at one file."""

    task: str
    #: The stem of the input file.
    file: str
    #: As `at`.
    started: str = ""
    #: How long it took; None if the journal does not say.
    seconds: float | None = None
    #: The worker's number, from 1 on for each task and run; 0: unknown.
    worker: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDone(TaskTried):
    """The file has its output."""

    name = "task_done"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(TaskTried):
    """The file has its `.err`."""

    name = "task_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettled(Event):
    """Nothing is left to do for an input file."""

    #: Its name in the input directory.
    file: str
    #: As in `FilesTaken.signatures`; None if the journal does not say.
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDone(FileSettled):
    """Every task has processed the file."""

    name = "file_done"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFailed(FileSettled):
    """A task has failed on the file."""

    name = "file_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileForgotten(Event):
    """An input file that was settled is to be processed again, or is gone."""

    name = "file_forgotten"
    #: Its name in the input directory.
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChanged(Event):
    """A worker has reached a state."""

    name = "worker"
    task: str
    #: As in `TaskTried`.
    worker: int
    #: A `WorkerState`; later versions may have others.
    state: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStopped(Event):
    """A task cannot run in this run."""

    name = "task_stopped"
    task: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(Event):
    """A service has ended in good order."""

    name = "run_stopped"
    #: `finished` if there was nothing left to do, or `stopped`.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent(Event):
    """An event that only a later version knows."""

    #: Its name, as it stands in the journal.
    event: object


_EVENTS: Mapping[object, type[Event]] = {
    each.name: each
    for each in (
        RunStarted,
        FilesStaged,
        FilesFound,
        TaskDone,
        TaskFailed,
        FileDone,
        FileFailed,
        FileForgotten,
        WorkerChanged,
        TaskStopped,
        RunStopped,
    )
}


def event_of(values: Mapping[str, Any]) -> Event | None:
    """Return the event that a JSON object of a journal is; None if it is none.

    That is so where a value has not the form of its field, or one is missing that all
    versions write.
    """
    name = values.get("event")
    kind = _EVENTS.get(name, UnknownEvent) if isinstance(name, str) else UnknownEvent
    given = {}
    for key, is_right, is_needed in _FIELDS[kind]:
        if key in values:
            value = values[key]
            if not is_right(value):
                return None
            given[key] = value
        elif is_needed:
            return None
    return kind(**given)


def values_of(event: Event) -> dict[str, Any]:
    """Return an event as the JSON object that `event_of` understands."""
    given = ((key, getattr(event, key)) for key, _, _ in _FIELDS[type(event)])
    known = {key: value for key, value in given if value is not None}
    return {"event": event.name} | known


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    # No truth value, which is an int for isinstance.
    return type(value) is int and -_LARGEST < value < _LARGEST


def _is_number(value: object) -> bool:
    # Not NaN, which is in no range.
    return type(value) in {int, float} and -_LARGEST < value < _LARGEST  # type: ignore[operator] # a number


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, list) and len(each) == _PAIR and all(map(_is_whole, each))
        for each in value
    )


#: More than any number of ours: 300 years in nanoseconds.
_LARGEST = 10**19
_PAIR = 2

#: By the type of a field: whether a value from JSON has its form.
_FORMS: Mapping[object, Callable[[object], bool]] = {
    str: _is_text,
    # Shown only, by its text.
    object: lambda _value: True,
    int: _is_whole,
    int | None: _is_whole,
    float | None: _is_number,
    ByTask: _is_map,
    Sequence[str]: _are_texts,
    Sequence[Sequence[int]]: _are_pairs,
}

#: Of each event, its fields: their keys, their forms, and whether all versions have it.
_FIELDS: Mapping[type[Event], Sequence[tuple[str, Callable[[object], bool], bool]]] = {
    kind: [
        (
            each.name,
            _FORMS[each.type],
            each.default is MISSING and each.default_factory is MISSING,
        )
        for each in fields(kind)
    ]
    for kind in (*_EVENTS.values(), UnknownEvent)
}
