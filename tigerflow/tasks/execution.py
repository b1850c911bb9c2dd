"""Process files: each one ends with a whole output or an `.err`, and nothing else.

Effects happen in an order in which a crash between any two loses nothing. On success,
the temporary file gets its final name, then a stale `.err` is removed. On failure, the
temporary and a stale output are removed, then the `.err` appears. Until the last step,
the file counts as undone. Only an exception of the task itself counts against a file,
not one because the process stops or the storage fails.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tigerflow.errors import (
    BatchResultError,
    InputDirectoryError,
    OutputDirectoryError,
    StorageError,
    StrayOutputError,
    TemporaryOutputMissingError,
    is_outage,
)
from tigerflow.files import (
    break_hard_links,
    create_temporary,
    date_not_before,
    discard,
    listing_problem,
    storage_problem,
    sync_file,
)
from tigerflow.tasks.error_file import ErrorRecord, is_stale_error, write_error
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.printed import Printed
from tigerflow.tasks.strays import Strays

#: Errors that may be the storage's fault, and not the file's.
_STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_OCCUPIED = (
    "output_file is an empty file when run starts: overwrite it (mode 'w', not 'x'), "
    "or remove it first; to store a directory, write an archive"
)

#: The argument of `run_batch`: for each file, its input and where to write its output.
Pairs = list[tuple[Path, Path]]


class Interrupted(BaseException):
    """The process must stop now; the current file is neither done nor failed."""


@dataclass
class Attempt:
    """One try at a file; `failure` is None after a success."""

    job: FileJob
    started: datetime
    #: The same on the monotonic clock.
    start_s: float
    temporary: Path
    finished: datetime | None = None
    failure: ErrorRecord | None = None
    #: The error if the output could not be synced to disk.
    unsynced: OSError | None = None


class Batch:
    """One attempt at the files of one call of a task, usually a single file."""

    def __init__(self, task: str, jobs: Sequence[FileJob], strays: Strays) -> None:
        """Start an attempt at files of `task`; `strays` finds unexpected files."""
        self._task = task
        self._strays = strays
        self._begun: list[Attempt] = []
        self._printed = Printed()
        #: The asyncio task that runs the call of an async task.
        self._coroutine: asyncio.Task[Any] | None = None
        self.jobs = jobs
        #: What the call returned: None, or an exception or None for each file.
        self.returned: object = None
        #: What a call for several files raised; these are still undone.
        self.raised: BaseException | None = None
        #: Files with an output or an `.err`, which are the first of `jobs`.
        self.settled: list[Attempt] = []

    @contextlib.contextmanager
    def attempt(self) -> Iterator[Pairs]:
        """Wrap the call; the block gets each input and the temporary path to write.

        An exception of a call for one file ends in its `.err`, even SystemExit and
        KeyboardInterrupt: in the block, only the task can raise them. An exception of a
        call for several files fails none of them yet. Exceptions that stop the process
        (`Interrupted`, a cancelled asyncio task) are raised, and the files stay undone.

        Raises:
            OutputDirectoryError: nothing can be stored; no file is to blame.
        """
        self._coroutine = _current_task()
        with self._printed.recording():
            try:
                for job in self.jobs:
                    self._begun.append(self._begin(job))
                yield [(this.job.input, this.temporary) for this in self._begun]
                failures = _failures(self.returned, len(self.jobs))
            except BaseException as exception:  # noqa: BLE001 -- the task may raise anything
                failures = self._take(exception)
        try:
            for this, failure in zip(self._begun, failures, strict=False):
                self._settle(this, failure)
        finally:
            self._discard_unsettled()

    def sync(self) -> None:
        """Write the outputs of the call to disk; from any thread.

        To be called at the end of the block of `attempt`, after a success.
        """
        for this in self._begun:
            try:
                sync_file(this.temporary)
            except OSError as error:
                this.unsynced = error

    def _take(self, exception: BaseException) -> list[BaseException | None]:
        """Return what an exception of the call means for each file."""
        try:
            self._raise_if_blameless(self.jobs[0], exception)
        except BaseException:
            self._discard_unsettled()
            raise
        if len(self.jobs) == 1:
            return [exception]
        self.raised = exception
        return []

    def _raise_if_blameless(self, job: FileJob, exception: BaseException) -> None:
        """Raise the exception, or a storage error, if the file is not to blame."""
        if self._stops_the_process(exception):
            raise exception
        if _is_about_storage(exception):
            place = job.output.parent
            # The error may be about another place that the task uses.
            problem = storage_problem(place)
            if problem is not None:
                raise OutputDirectoryError(place, problem) from exception
        # Libraries have their own exceptions for files that they cannot read.
        problem = listing_problem(job.input.parent)
        if problem is not None:
            trouble = InputDirectoryError(job.input.parent, problem)
            if trouble.is_outage:
                raise trouble from exception

    def _stops_the_process(self, exception: BaseException) -> bool:
        # Not isinstance, which an exception can override.
        kind = type(exception)
        if issubclass(kind, Interrupted | StorageError):
            return True
        if self._coroutine is None:
            # Only the code of a synchronous task can raise the others.
            return False
        if issubclass(kind, GeneratorExit):
            # The coroutine is being closed; it takes no more steps.
            return _current_task() is not self._coroutine
        return issubclass(kind, asyncio.CancelledError) and (
            self._coroutine.cancelling() > 0
        )

    def _settle(self, this: Attempt, failure: BaseException | None) -> None:
        if failure is None:
            try:
                self._keep(this)
            except BaseException as exception:  # noqa: BLE001 -- what is there to keep is the task's
                failure = exception
        if failure is not None:
            # Checked while its output still takes up space.
            self._raise_if_blameless(this.job, failure)
            self._discard(this)
            try:
                _fail(this, self._record(this, failure))
            except BaseException as exception:  # noqa: BLE001 -- a message too large to be stored, say
                self._raise_if_blameless(this.job, exception)
                _fail(this, self._record(this, exception))
        # Not from the time of day, which may jump meanwhile.
        this.finished = this.started + timedelta(
            seconds=time.monotonic() - this.start_s
        )
        self._strays.forget(this.temporary, this.job.output)
        self.settled.append(this)

    def _record(self, this: Attempt, failure: BaseException) -> ErrorRecord:
        name, tail = this.job.input.name, self._printed.tail()
        record = ErrorRecord.from_exception(self._task, name, failure, tail)
        is_in_the_way = "exists" in record.message or issubclass(
            type(failure), FileExistsError | NotADirectoryError
        )
        if is_in_the_way and this.temporary.name in record.message:
            return replace(record, message=f"{record.message}; {_OCCUPIED}")
        return record

    def _begin(self, job: FileJob) -> Attempt:
        started, start_s = datetime.now(UTC), time.monotonic()
        temporary = _create_temporary(job)
        self._strays.expect(temporary, job.output)
        return Attempt(job, started, start_s, temporary)

    def _keep(self, this: Attempt) -> None:
        strays = self._strays.left_by(this.temporary)
        if strays:
            raise StrayOutputError([stray.name for stray in strays])
        if this.unsynced is not None:
            raise OutputDirectoryError(this.job.output.parent, this.unsynced)
        _keep(this, self._task)

    def _discard_unsettled(self) -> None:
        for this in self._begun[len(self.settled) :]:
            self._discard(this)
            self._strays.forget(this.temporary, this.job.output)

    def _discard(self, this: Attempt) -> None:
        """Remove the temporary, and other files that its run has left."""
        for stray in self._strays.left_by(this.temporary):
            discard(stray)
        discard(this.temporary)


def _failures(returned: object, count: int) -> Sequence[BaseException | None]:
    """Return the exception of each file, or None, by what the call returned."""
    if returned is None:
        return [None] * count
    # Iterating over a mapping gives only its keys, and over text its characters.
    if isinstance(returned, Mapping | str) or not isinstance(returned, Iterable):
        found = f"a value of type {type(returned).__name__}"
        raise BatchResultError(found)
    results = list(returned)
    if len(results) != count:
        found = f"{len(results)} results for {count} pairs"
        raise BatchResultError(found)
    for each in results:
        if not (each is None or isinstance(each, BaseException)):
            found = f"a result of type {type(each).__name__}"
            raise BatchResultError(found)
    return results


def _is_about_storage(exception: BaseException) -> bool:
    try:
        return isinstance(exception, OSError) and (
            exception.errno in _STORAGE_ERRNOS or is_outage(exception)
        )
    except Exception:  # noqa: BLE001 -- one of the task's own may have any errno
        return False


def _create_temporary(job: FileJob) -> Path:
    try:
        return create_temporary(job.output, job.extension)
    except OSError as error:
        raise OutputDirectoryError(job.output.parent, error) from error


def _keep(this: Attempt, task: str) -> None:
    temporary, job = this.temporary, this.job
    if temporary.is_symlink() or not temporary.is_file():
        raise TemporaryOutputMissingError
    # If it is linked to the input, this would change the date of that, too.
    break_hard_links(temporary)
    # A run that copies its input's date would leave an output that seems older.
    os.utime(temporary)
    date_not_before(temporary, job.input)
    temporary.replace(job.output)
    if is_stale_error(job, task):
        job.error.unlink(missing_ok=True)


def _fail(this: Attempt, failure: ErrorRecord) -> None:
    this.failure = failure
    try:
        this.job.output.unlink(missing_ok=True)
    except OSError as error:
        # If its name is too long, or a directory has it, it is no output of ours.
        if error.errno not in {errno.ENAMETOOLONG, errno.EISDIR}:
            raise OutputDirectoryError(this.job.output.parent, error) from error
    write_error(this.job, failure)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        # No event loop runs.
        return None
