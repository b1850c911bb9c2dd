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
    #: Name of the output that the file does not have.
    output: str = ""

    @classmethod
    def from_exception(
        cls,
        task: str,
        file: str,
        exception: BaseException,
        printed: str = "",
    ) -> "ErrorRecord":
        """Describe `exception`, also one that cannot describe itself; never raise."""
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
    """Tell whether the `.err` of a job, which is there, says that this task failed.

    Programs that share an output directory share the names of errors as well. One that
    does not say whose it is belongs to whoever asks.
    """
    named, output = _named_in_error(job)
    return named in {None, task} and output in {None, job.output.name}


def is_stale_error(job: FileJob, task: str) -> bool:
    """Tell whether an `.err` goes with the success of this task.

    Also when the task had another name as it failed on this output.
    """
    named, output = _named_in_error(job)
    return named in {None, task} if output is None else output == job.output.name


def _named_in_error(job: FileJob) -> tuple[str | None, str | None]:
    """Return the task and the output that an `.err` names, if it does."""
    record = read_error(job.error)
    return record.task or None, record.output or None
