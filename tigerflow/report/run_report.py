"""What a report says about a run: each task, each file that failed, and the totals.

`reading` makes one from a run directory, and `as_json` turns it into JSON values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tigerflow.rundir.judgement import FileState
from tigerflow.rundir.lock import Holder
from tigerflow.tasks.error_file import read_error

#: Characters of each text of an `.err` that a report shows.
SHOWN_LIMIT = 20_000


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
        return _shortened(read_error(self.path).printed)

    def read(self) -> ErrorText:
        """Read the `.err`, also one that is not of our making, or has gone."""
        if self.problem is not None:
            kind = "UnusableName"
            return ErrorText(
                self.file, str(self.path), None, kind, f"{self.problem}; rename it", ""
            )
        record = read_error(self.path)
        return ErrorText(
            file=_shortened(record.file or self.file),
            path=str(self.path),
            timestamp=record.timestamp or None,
            exception_type=_shortened(record.exception_type),
            message=_shortened(record.message),
            traceback=_shortened(record.traceback),
        )


def _shortened(text: str) -> str:
    """Return as much of a text as anybody reads."""
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
    #: service has beside these. Of the others, some tasks are done.
    running: int = 0
    queued: int = 0
    #: Sentences on what of the journal is missing.
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many files there are."""
        return sum(self.files.values())
