"""The `.err` of a file that failed: its schema, its writer and its reader."""

import contextlib
import errno
import json
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from tigerflow.errors import OutputDirectoryError
from tigerflow.files import date_not_before, read_regular, write_json
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.tracebacks import class_name, format_exception, message_of

#: Bytes of an `.err` that are read.
ERROR_LIMIT = 1 << 24


@dataclass(frozen=True)
class ErrorRecord:
    """The content of an `.err` file: one JSON object with these keys."""

    #: Name of the input file.
    file: str
    #: When it failed: UTC, ISO 8601 with offset.
    timestamp: str
    #: Class name of the exception.
    exception_type: str
    #: Message of the exception.
    message: str
    #: Where it was raised, in the task's own code; empty if it was not raised there.
    traceback: str
    #: Name of the task.
    task: str
    #: The end of what `run` printed for this file, at most `PRINTED_TAIL` characters.
    printed: str
    #: Name of the missing output.
    output: str = ""

    @classmethod
    def from_exception(
        cls,
        task: str,
        file: str,
        exception: BaseException,
        printed: str = "",
    ) -> "ErrorRecord":
        """Describe `exception`, even if that cannot describe itself; never raise."""
        return cls(
            file=file,
            timestamp=datetime.now(UTC).isoformat(),
            exception_type=class_name(exception),
            message=message_of(exception),
            traceback=format_exception(exception),
            task=task,
            printed=printed,
        )

    @property
    def summary(self) -> str:
        """`ExceptionType: first line of the message`."""
        first = self.message.strip().splitlines()[:1]
        return ": ".join([self.exception_type, *first])


_KEYS = [each.name for each in fields(ErrorRecord)]


def write_error(job: FileJob, record: ErrorRecord, run_dir: Path = Path()) -> None:
    """Write the `.err` file of a job, whole or not at all, below `run_dir`.

    Nothing is written if the name of the `.err` is too long for the file system.

    Raises:
        OutputDirectoryError: it cannot be written.
    """
    path = run_dir / job.error
    try:
        if job.error.parent != job.output.parent:
            # A directory for errors alone is created with the first error.
            path.parent.mkdir(exist_ok=True)
        write_json(path, asdict(replace(record, output=job.output.name)), sync=True)
        date_not_before(path, run_dir / job.input)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise OutputDirectoryError(path.parent, error) from error


def read_error(path: Path) -> ErrorRecord:
    """Read an `.err`; what it does not say is empty, as is all of a missing one.

    The text of a file that no task has written is its `message`, and so is the reason
    why a file cannot be read. Nothing is raised.
    """
    text, values = _text_and_values(path)
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    known = {key: texts.get(key, "") for key in _KEYS}
    return ErrorRecord(**known | {"message": texts.get("message", text)})


def _text_and_values(path: Path) -> tuple[str, dict[str, object]]:
    """Return the text of an `.err`, and the JSON object that it is, if it is one."""
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


def is_error_of(job: FileJob, task: str) -> bool:
    """Tell whether the existing `.err` of a job says that this task failed.

    Programs that share an output directory share the names of `.err` files, too. An
    `.err` that names no task counts as this task's.
    """
    named, output = _named_in_error(job)
    return named in {None, task} and output in {None, job.output.name}


def is_stale_error(job: FileJob, task: str) -> bool:
    """Tell whether a success of this task makes an `.err` obsolete.

    That includes an error for the same output under a former name of the task.
    """
    named, output = _named_in_error(job)
    return named in {None, task} if output is None else output == job.output.name


def _named_in_error(job: FileJob) -> tuple[str | None, str | None]:
    """Return the task and the output that an `.err` names; None if it names none."""
    record = read_error(job.error)
    return record.task or None, record.output or None
