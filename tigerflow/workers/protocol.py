"""The messages between a pool and a worker process, as JSON lines.

To the worker: first a `WorkerTask`, then `FileRequest`s. The end of the messages means
stop: the present files are given up, teardown runs, and the process ends. From the
worker: one `Ready` or `SetupFailed`, then an `Answer` for each request in any order,
and at the end a `TeardownFailed` if teardown raised.

They travel over a socket pair or, between hosts, through the files of a mailbox. Files
do not end, and do not show that a process died. So there, `Stop` is the last message to
the worker, `Started` the first one from it, and `Left` its last.
"""

import json
import signal
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, get_args

from tigerflow.tasks.worker_task import WorkerTask

#: How Grid Engine warns all processes of a job (`qsub -notify`) before it kills them,
#: and before it suspends them, which is no reason to end.
WARNS, SUSPENDS = signal.SIGUSR2, signal.SIGUSR1


@dataclass(frozen=True)
class FileRequest:
    """One file to process; paths are relative to the run directory."""

    id: int
    input: str
    output: str
    error: str
    #: Whether the next request is for the same call.
    more: bool = False


@dataclass(frozen=True)
class Ready:
    """`setup` has returned."""


@dataclass(frozen=True)
class SetupFailed:
    """The task cannot run in this process."""

    message: str
    #: The traceback of what `setup` raised.
    traceback: str = ""
    #: Whether the system was short of something, so that another try may succeed.
    is_shortage: bool = False


class Fate(StrEnum):
    """What became of a file."""

    DONE = "done"
    #: It has an `.err`.
    FAILED = "failed"
    #: No worker ran it, or its run was given up; it is still undone.
    UNDONE = "undone"
    #: Its result could not be stored: no room, or no permission. It is still undone.
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Answer:
    """What became of one request."""

    id: int
    fate: Fate
    message: str = ""
    #: When `run` was called (UTC, ISO 8601 with offset), and how many seconds it took.
    started: str = ""
    seconds: float = 0.0
    #: The number of the worker in its pool; 0 until the pool adds it.
    worker: int = 0
    #: If it is blocked: whether that may pass by itself.
    is_outage: bool = False


@dataclass(frozen=True)
class TeardownFailed:
    """`teardown` has raised."""

    message: str


@dataclass(frozen=True)
class Recall:
    """The worker is to hand back what it has not begun: others can do it sooner."""


@dataclass(frozen=True)
class HandedBack:
    """What the worker has handed back, by the requests' ids, in their order."""

    ids: list[int]


@dataclass(frozen=True)
class Stop:
    """The worker gets no more files; also one that has not started yet."""


@dataclass(frozen=True)
class Started:
    """The worker's process runs: setup commands, then `setup`, then files."""

    host: str
    pid: int
    #: The scheduler's number of the job; empty where it has none.
    job: str
    #: When the job must have ended, in seconds since the epoch; None is never.
    ends_at: float | None
    #: Slurm's name of the host; empty if unknown.
    node: str = ""


class LeaveReason(StrEnum):
    """Why a worker leaves."""

    #: The service stopped it.
    STOPPED = "it was told to stop"
    WALL_TIME = "its wall time is nearly over"
    #: The service shows no sign of life, or the mailbox is gone.
    ALONE = "the service has shown no sign of life for long"
    #: Its job is cancelled, or was killed around it.
    ENDED = "its job is being ended"
    CANNOT_RUN = "its task cannot run"


@dataclass(frozen=True)
class Left:
    """The worker has torn down and ends; it works on none of its files any more."""

    why: LeaveReason


Message = (
    WorkerTask
    | FileRequest
    | Recall
    | HandedBack
    | Stop
    | Started
    | Ready
    | SetupFailed
    | Answer
    | TeardownFailed
    | Left
)

_TYPES: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """Return the message as one line; names that are not UTF-8 survive."""
    line = json.dumps({"type": type(message).__name__, **asdict(message)})
    return line.encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line."""
    fields: dict[str, Any] = json.loads(line)
    kind = _TYPES[fields.pop("type")]
    if kind is Answer:
        fields["fate"] = Fate(fields["fate"])
    elif kind is Left:
        fields["why"] = LeaveReason(fields["why"])
    return kind(**fields)
