"""The undone files of a directory, for the command line of a single task."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tigerflow.errors import (
    DirectoryClashError,
    DirectoryMissingError,
    OutputDirectoryError,
)
from tigerflow.inbox import Arrival, Inbox, Signature
from tigerflow.log import METRICS, logger
from tigerflow.naming import (
    check_extension,
    error_name,
    output_name,
    printable,
    stem_of,
)
from tigerflow.tasks.execution import Attempt, FileJob


@dataclass(frozen=True)
class Directories:
    """Where files come from and go to, with their extensions."""

    input_dir: Path
    input_ext: str
    output_dir: Path
    output_ext: str

    def check(self) -> None:
        """Refuse directories and extensions that cannot work together.

        Raises:
            NameRuleError: an extension cannot name files.
            DirectoryMissingError: a directory is not there.
            DirectoryClashError: outputs would be inputs.
        """
        check_extension(self.input_ext)
        check_extension(self.output_ext)
        for option, path in (
            ("--input-dir", self.input_dir),
            ("--output-dir", self.output_dir),
        ):
            if not path.is_dir():
                raise DirectoryMissingError(option, path)
        same = self.input_dir.samefile(self.output_dir)
        if same and self.output_ext.endswith(self.input_ext):
            msg = (
                f"Input and output directory are the same, and outputs "
                f"({self.output_ext}) would be taken for inputs ({self.input_ext}); "
                "give another --output-dir or --output-ext"
            )
            raise DirectoryClashError(msg)

    def job(self, name: str) -> FileJob:
        """Return the job of one input file."""
        stem = stem_of(name, self.input_ext)
        return FileJob(
            self.input_dir / name,
            self.output_dir / output_name(stem, self.output_ext),
            self.output_dir / error_name(stem),
        )


class DirectorySource:
    """The undone files of a directory, as they arrive, in order of their names.

    A file is done when its output or its `.err` is there and not older than it.
    """

    def __init__(
        self,
        directories: Directories,
        poll_interval_s: float,
        grace_s: float,
        *,
        once: bool,
        progress: Callable[[str], None],
    ) -> None:
        """Offer what is there and what arrives, or with `once` only what is there."""
        self._directories = directories
        self._grace_s = grace_s
        self._once = once
        self._progress = progress
        self._queue: deque[Arrival] = deque()
        self._in_hand: dict[str, Arrival] = {}
        # Only files whose time stamps would make them look undone for ever.
        self._done_anyway: dict[str, Signature] = {}
        self._stopped = threading.Event()
        self._on_stop: Callable[[], None] = lambda: None
        self.inbox = Inbox(
            directories.input_dir,
            directories.input_ext,
            self._undone,
            poll_interval_s,
        )
        self.succeeded = 0
        self.failed = 0
        self.error: OutputDirectoryError | None = None

    def stop(self) -> None:
        """Offer no more files; from any thread."""
        self._stopped.set()
        self.inbox.stop()
        self._on_stop()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` when `stop` is called."""
        self._on_stop = callback
        if self._stopped.is_set():
            callback()

    def patience_s(self) -> float | None:
        """Return the grace time once stopped; files of `--once` are waited for."""
        return self._grace_s if self._stopped.is_set() else None

    def next(self) -> FileJob | None:
        """Wait for the next undone file; None when stopped, or when `--once` is over."""
        while not self._queue:
            batch = self.inbox.batch(wait=not self._once)
            if not batch:
                return None
            # An event and a scan may both have told of a file.
            fresh = [arrival for arrival in batch if arrival.name not in self._in_hand]
            self._in_hand.update((arrival.name, arrival) for arrival in fresh)
            self._queue.extend(fresh)
        if self._stopped.is_set():
            return None
        return self._directories.job(self._queue.popleft().name)

    def started(self, job: FileJob) -> None:
        """Log it."""
        logger.info("Starting processing: {}", printable(job.input.name))

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Log the file's fate, and see whether the input changed meanwhile."""
        if result.failure is None:
            self.succeeded += 1
            logger.info("Successfully processed: {}", printable(job.input.name))
        else:
            self.failed += 1
            logger.error("Failed processing: {}", printable(job.input.name))
        logger.log(METRICS, "{}", _metrics(result))
        self._progress(f"{self.succeeded} done, {self.failed} failed, {self._left()}")
        self._settle(job)

    def broken(self, job: FileJob, error: OutputDirectoryError) -> None:
        """Stop: no later file can fare better."""
        del self._in_hand[job.input.name]
        if self.error is None:
            self.error = error
            logger.error("{}", error)
        self.stop()

    def _left(self) -> str:
        return f"{len(self._queue)} waiting"

    def _settle(self, job: FileJob) -> None:
        """Leave a file in peace whose result can never be newer than itself."""
        arrival = self._in_hand.pop(job.input.name)
        try:
            newest = max(_times(job))
        except ValueError:
            # Neither could be stored: a name that is too long for an `.err`.
            newest = 0
        if newest < arrival.signature[2]:
            self._done_anyway[arrival.name] = arrival.signature

    def _undone(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        for arrival in arrivals:
            if arrival.name in self._in_hand:
                continue
            if self._done_anyway.get(arrival.name) == arrival.signature:
                continue
            times = _times(self._directories.job(arrival.name))
            if all(time_ns < arrival.signature[2] for time_ns in times):
                yield arrival


def _times(job: FileJob) -> Iterator[int]:
    for path in (job.output, job.error):
        try:
            yield path.stat().st_mtime_ns
        except OSError:
            continue


def _metrics(result: Attempt) -> str:
    return json.dumps(
        {
            "file": result.job.input.name,
            "started_at": result.started.isoformat(),
            "finished_at": result.finished and result.finished.isoformat(),
            "status": "success" if result.failure is None else "error",
        },
    )
