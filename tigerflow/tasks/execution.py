"""Process one file: a whole output, or an `.err`, and nothing else.

The effects come in this order, so that a crash between any two loses nothing: the
temporary file gets its final name, then a stale `.err` goes. On failure the temporary
and a stale output go, then the `.err` appears. Until then the file counts as undone.
"""

import asyncio
import contextlib
import errno
import os
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tigerflow.errors import OutputDirectoryError, TemporaryOutputMissingError
from tigerflow.files import create_temporary, date_not_before, discard, write_json

#: How much of what a file's run printed stands in its `.err`, in characters.
PRINTED_TAIL = 4000

#: The storage is to blame for these, not the file that happened to be next.
_STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Interrupted(BaseException):
    """The process must stop now: the file in hand is neither done nor failed."""


@dataclass(frozen=True)
class FileJob:
    """One file to process, and where its result or its error belongs."""

    input: Path
    output: Path
    error: Path


@dataclass(frozen=True)
class ErrorRecord:
    """What an `.err` file holds, as one JSON object with these keys."""

    #: Name of the input file.
    file: str
    #: When it failed: UTC, ISO 8601 with offset.
    timestamp: str
    #: Class name of the exception.
    exception_type: str
    #: What the exception says.
    message: str
    #: Where it was raised, in the task's own code; empty if it was not raised there.
    traceback: str
    #: Name of the task.
    task: str
    #: The last of what `run` printed for this file, `PRINTED_TAIL` characters at most.
    printed: str

    @classmethod
    def from_exception(
        cls,
        task: str,
        file: str,
        exception: BaseException,
        printed: str = "",
    ) -> "ErrorRecord":
        """Describe `exception`, also one that cannot describe itself."""
        return cls(
            file=file,
            timestamp=datetime.now(UTC).isoformat(),
            exception_type=type(exception).__name__,
            message=_message(exception),
            traceback=_format(exception),
            task=task,
            printed=printed,
        )

    @property
    def summary(self) -> str:
        """`ExceptionType: first line of the message`."""
        first = self.message.strip().splitlines()[:1]
        return ": ".join([self.exception_type, *first])


@dataclass
class Attempt:
    """One try at a file; `failure` is None after a success."""

    job: FileJob
    started: datetime
    temporary: Path
    finished: datetime | None = None
    failure: ErrorRecord | None = None


@dataclass
class _Printed:
    text: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, text: str) -> None:
        self.text.append(text)
        self.size += len(text)
        # Cut rarely: a task may print millions of short pieces.
        if self.size > 4 * PRINTED_TAIL:
            self.text = [self.tail()]
            self.size = len(self.text[0])

    def tail(self) -> str:
        return "".join(self.text)[-PRINTED_TAIL:]


_printed: ContextVar[_Printed | None] = ContextVar("_printed", default=None)


class PrintRecorder:
    """Stands in for sys.stdout or sys.stderr: passes on, and remembers a file's tail.

    Files in flight at once are told apart by the context each runs in. A print that
    nobody can read is no failure of the file, so none of these methods raises for it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Pass everything on to `stream`; Python has None for a closed one."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write to the stream and to the record of the file being processed."""
        current = _printed.get()
        if current is not None:
            current.add(text)
        # A closed terminal, or a pipe whose reader has gone.
        with contextlib.suppress(OSError):
            self._pass_on(text)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.flush()

    def _pass_on(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            # A task that prints its file's name must work with every name.
            encoding = self._stream.encoding
            readable = text.encode(encoding, "backslashreplace").decode(encoding)
            self._stream.write(readable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def write_error(job: FileJob, record: ErrorRecord, run_dir: Path = Path()) -> None:
    """Write the `.err` file of a job, whole or not at all; its path is below `run_dir`.

    A name that is too long even for that is the file's own trouble: nothing is written.

    Raises:
        OutputDirectoryError: the directory cannot take it.
    """
    path = run_dir / job.error
    try:
        if job.error.parent != job.output.parent:
            # A directory for errors alone is made with the first of them.
            path.parent.mkdir(exist_ok=True)
        write_json(path, asdict(record))
        date_not_before(path, run_dir / job.input)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise OutputDirectoryError(path.parent, error) from error


@contextlib.contextmanager
def attempt(task: str, job: FileJob) -> Iterator[Attempt]:
    """Wrap the call of a task's `run`; the block gets the temporary path to write.

    Whatever `run` raises ends in the attempt's `failure` and the `.err`, SystemExit and
    KeyboardInterrupt included: in here they can only come from the task itself. What
    stops the process (`Interrupted`, a cancelled asyncio task) passes, and leaves the
    file undone.

    Raises:
        OutputDirectoryError: nothing can be stored; the file is not to blame.
    """
    started, start_s = datetime.now(UTC), time.monotonic()
    printed = _Printed()
    token = _printed.set(printed)
    try:
        temporary = _create_temporary(job)
        this = Attempt(job, started, temporary)
        try:
            yield this
            _keep(this)
        except BaseException as exception:
            discard(temporary)
            if _stops_the_process(exception):
                raise
            if isinstance(exception, OSError) and exception.errno in _STORAGE_ERRNOS:
                raise OutputDirectoryError(job.output.parent, exception) from exception
            name, tail = job.input.name, printed.tail()
            _fail(this, ErrorRecord.from_exception(task, name, exception, tail))
        # Not the time of day, which may jump meanwhile.
        this.finished = started + timedelta(seconds=time.monotonic() - start_s)
    finally:
        _printed.reset(token)


def _create_temporary(job: FileJob) -> Path:
    try:
        return create_temporary(job.output)
    except OSError as error:
        raise OutputDirectoryError(job.output.parent, error) from error


def _keep(this: Attempt) -> None:
    temporary, job = this.temporary, this.job
    if temporary.is_symlink() or not temporary.is_file():
        raise TemporaryOutputMissingError
    # A run that copies its input's times would leave an output older than its input.
    os.utime(temporary)
    date_not_before(temporary, job.input)
    temporary.replace(job.output)
    job.error.unlink(missing_ok=True)


def _fail(this: Attempt, failure: ErrorRecord) -> None:
    this.failure = failure
    try:
        this.job.output.unlink(missing_ok=True)
    except OSError as error:
        # A name that is too long, or a directory of that name, is no output of ours.
        if error.errno not in {errno.ENAMETOOLONG, errno.EISDIR}:
            raise OutputDirectoryError(this.job.output.parent, error) from error
    write_error(this.job, failure)


def _stops_the_process(exception: BaseException) -> bool:
    if isinstance(exception, Interrupted | GeneratorExit | OutputDirectoryError):
        return True
    if isinstance(exception, asyncio.CancelledError):
        return _is_being_cancelled()
    return False


def _is_being_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        # No event loop runs: a synchronous task raised it itself.
        return False
    return task is not None and task.cancelling() > 0


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException:  # noqa: BLE001 -- an exception may fail to print in any way
        return f"<unprintable {type(exception).__name__} object>"


def _format(exception: BaseException) -> str:
    try:
        return "".join(
            traceback.format_exception(
                type(exception),
                exception,
                user_frames(exception.__traceback__),
            ),
        )
    except BaseException:  # noqa: BLE001 -- see _message
        return "".join(traceback.format_tb(exception.__traceback__))


# And the event loop's, between ours.
_OWN_MODULES = ("tigerflow.tasks", "tigerflow.cli", "tigerflow.workers", "asyncio")


def user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames above the task's code; keep all if there is no other."""
    start = trace
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if not module.startswith(_OWN_MODULES):
            return trace
        trace = trace.tb_next
    return start
