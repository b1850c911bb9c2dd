"""The undone files of a directory, for the command line of a single task."""

import contextlib
import json
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tigerflow.errors import (
    START_AGAIN,
    DirectoryClashError,
    DirectoryMissingError,
    InputDirectoryError,
    StorageError,
    TigerflowError,
)
from tigerflow.files import trouble_with
from tigerflow.log import METRICS, logger
from tigerflow.naming import (
    check_extension,
    error_name,
    files_word,
    output_name,
    printable,
    stem_of,
)
from tigerflow.rundir.layout import signatures_file
from tigerflow.rundir.signatures import Entry, Signature, Signatures, signature_of
from tigerflow.service.inbox import TROUBLE_PAUSE_S, Arrival, Inbox
from tigerflow.tasks.error_file import is_error_of
from tigerflow.tasks.execution import Attempt
from tigerflow.tasks.file_job import FileJob
from tigerflow.unmatched import unmatched

#: How long after it has written a file a copying tool may set its date.
COPYING_NS = 10 * 1_000_000_000


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
            # Not path.is_dir(): it raises for a name that is too long.
            if not os.path.isdir(path):  # noqa: PTH112
                raise DirectoryMissingError(option, path)
        same = self.input_dir.samefile(self.output_dir)
        if same and self.output_ext.endswith(self.input_ext):
            msg = (
                f"Input and output directory are the same, and outputs "
                f"({self.output_ext}) would be taken for inputs ({self.input_ext}); "
                "give another --output-dir or --output-ext"
            )
            raise DirectoryClashError(msg)

    def absolute(self) -> "Directories":
        """Return the same, whatever directory a task changes to."""
        return replace(
            self,
            input_dir=self.input_dir.absolute(),
            output_dir=self.output_dir.absolute(),
        )

    def job(self, name: str) -> FileJob:
        """Return the job of one input file."""
        stem = stem_of(name, self.input_ext)
        return FileJob(
            self.input_dir / name,
            self.output_dir / output_name(stem, self.output_ext),
            self.output_dir / error_name(stem),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one file; times are UTC, ISO 8601 with offset, if known."""

    started_at: str | None
    finished_at: str | None
    #: One line on why it has an `.err`; None for one that has an output.
    failure: str | None


class DirectorySource:
    """The undone files of a directory, as they arrive, in order of their names.

    A file is done when its output, or the `.err` of this task, is there and not older
    than it. One that has another size or date than when it was processed is undone.
    """

    def __init__(
        self,
        directories: Directories,
        poll_interval_s: float,
        grace_s: float,
        *,
        task: str,
        once: bool,
        progress: Callable[[str], None],
    ) -> None:
        """Offer to `task` what is there and what arrives.

        With `once`, only what is there.
        """
        self._directories = directories
        self._task = task
        self._signatures = Signatures(
            directories.output_dir / signatures_file(directories.output_ext)
        )
        #: By `.err`: its date, and whether it is of this task.
        self._errors: dict[Path, tuple[int, bool]] = {}
        #: Names of files that this task has failed on since it was started.
        self._failed: set[str] = set()
        self._grace_s = grace_s
        self._once = once
        self._progress = progress
        self._queue: deque[Arrival] = deque()
        self._in_hand: dict[str, Arrival] = {}
        # Only files whose time stamps would make them look undone for ever.
        self._done_anyway: dict[str, Signature] = {}
        #: Why nothing is offered just now.
        self._trouble: str | None = None
        self._is_over = False
        self._stopped = threading.Event()
        self._on_stop: Callable[[], None] = lambda: None
        self.inbox = Inbox(
            directories.input_dir,
            directories.input_ext,
            self._undone,
            poll_interval_s,
            on_trouble=self._see_input,
        )
        self.succeeded = 0
        self.failed = 0
        #: Files whose result or error was there before.
        self.succeeded_earlier = 0
        self.failed_earlier = 0
        self._has_told_of_earlier = False
        #: What stopped it, other than `stop`.
        self.error: TigerflowError | None = None

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
        """Wait for the next undone file; None when stopped, or `--once` is over."""
        self._wait_out()
        while (self._queue or self._refill()) and not self._stopped.is_set():
            if (job := self._take_waiting()) is not None:
                return job
        self._is_over = True
        return None

    def _wait_out(self) -> None:
        """Return when inputs can be read and results stored, or when stopped."""
        while self._trouble is not None and not self._stopped.wait(TROUBLE_PAUSE_S):
            there = self._directories
            problem = trouble_with(there.input_dir, there.output_dir, there.output_dir)
            if problem is None:
                self._trouble = None
                logger.info("Inputs can be read and results stored again")
                # The files that were given back are found by it.
                self.inbox.scan_now()
            elif not problem.is_outage:
                self.stop_for(problem)

    def _see_input(self, trouble: InputDirectoryError | None) -> None:
        if trouble is not None:
            logger.error("{}; waiting for that", trouble)
        else:
            logger.info("Inputs can be read again")

    def batch(self, limit: int) -> list[FileJob]:
        """Wait for an undone file; return it, with others that are there already."""
        first = self.next()
        jobs = [] if first is None else [first]
        while 0 < len(jobs) < limit and (job := self._take_waiting()) is not None:
            jobs.append(job)
        return jobs

    def _take_waiting(self) -> FileJob | None:
        """Return the next of the files that are known; None if there is none."""
        while self._queue and not self._stopped.is_set():
            name = self._queue.popleft().name
            job = self._directories.job(name)
            signature = _signature(job.input)
            if signature is not None:
                # It may have changed while it waited.
                self._in_hand[name] = Arrival(name, signature)
                self._note_taken(job, signature)
                return job
            # It went away while it waited.
            del self._in_hand[name]
        return None

    def _note_taken(self, job: FileJob, signature: Signature) -> None:
        """Note of which content the results of a file will be; older ones are not."""
        name = job.input.name
        if self._is_other(name, signature):
            self._make_older(job, signature[2])
        self._signatures.put({name: signature[1:]})

    def _is_other(self, name: str, signature: Signature) -> bool:
        """Tell whether a file was last processed with another size or date."""
        noted = self._signatures.get(name)
        return noted is not None and noted != signature[1:]

    def _refill(self) -> bool:
        batch = self.inbox.batch(wait=not self._once) or []
        if self.inbox.first_scan_is_over and not self._has_told_of_earlier:
            self._tell_of_earlier()
        # An event and a scan may both have told of a file.
        fresh = [arrival for arrival in batch if arrival.name not in self._in_hand]
        self._in_hand.update((arrival.name, arrival) for arrival in fresh)
        self._queue.extend(fresh)
        return bool(batch)

    def _tell_of_earlier(self) -> None:
        self._has_told_of_earlier = True
        directories = self._directories
        if sentence := unmatched(directories.input_dir, directories.input_ext):
            logger.warning("{}", sentence)
        done, failed = self.succeeded_earlier, self.failed_earlier
        if done:
            logger.info("Already processed: {} {}", done, files_word(done))
        if failed:
            hint = "delete its '.err' to have one processed again"
            logger.warning(
                "Failed earlier: {} {}; {}", failed, files_word(failed), hint
            )

    def started(self, job: FileJob) -> None:
        """Log it."""
        logger.info("Starting processing: {}", printable(job.input.name))
        self._show_progress()

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Log the file's fate, and settle it."""
        name = printable(job.input.name)
        if result.failure is None:
            logger.info("Successfully processed: {}", name)
        else:
            logger.error("Failed processing: {}", name)
        finished = result.finished.isoformat() if result.finished else None
        failure = result.failure.summary if result.failure else None
        self.settle(job, Outcome(result.started.isoformat(), finished, failure))

    def settle(self, job: FileJob, outcome: Outcome) -> None:
        """Count a file as done or failed, unless its input has changed meanwhile."""
        if outcome.failure is None:
            self.succeeded += 1
        else:
            self.failed += 1
            self._failed.add(job.input.name)
        logger.log(METRICS, "{}", _metrics(job, outcome))
        self._settle(job, outcome)
        self._show_progress()

    def give_back(self, job: FileJob) -> None:
        """Offer a file again, with the next scan: nobody has run it to its end."""
        self._in_hand.pop(job.input.name, None)

    def _show_progress(self) -> None:
        self._progress(
            f"{self.succeeded} done, {self.failed} failed, "
            f"{len(self._in_hand) - len(self._queue)} in hand, "
            f"{len(self._queue)} waiting",
        )

    def broken(self, job: FileJob, error: StorageError) -> None:
        """Wait for the end of the trouble, if it may end; else stop."""
        self.blocked(job, error, is_outage=error.is_outage)

    def blocked(self, job: FileJob, error: TigerflowError, *, is_outage: bool) -> None:
        """Do the same for what another process has met."""
        self.give_back(job)
        if not is_outage or self._is_over:
            # No later file can fare better, or nobody asks for this one any more.
            self.stop_for(error)
        elif self._trouble is None:
            self._trouble = str(error)
            logger.error(
                "{}; waiting for that", self._trouble.removesuffix(START_AGAIN)
            )

    def stop_for(self, error: TigerflowError) -> None:
        """Stop because of an error, which is logged."""
        if self.error is None:
            self.error = error
            logger.error("{}", error)
        self.stop()

    def _settle(self, job: FileJob, outcome: Outcome) -> None:
        """Have a file that changed meanwhile done again.

        Leave one in peace whose result can never be newer than itself.
        """
        arrival = self._in_hand.pop(job.input.name)
        now = _stat(job.input)
        if now is not None and _has_new_content(arrival.signature, now):
            self._make_older(job, now.st_mtime_ns)
            self.inbox.scan_now()
            return
        try:
            newest = max(self._times(job))
        except ValueError:
            # Neither could be stored: a name that is too long for an `.err`.
            if outcome.failure is not None:
                logger.error("No room for its '.err': {}", outcome.failure)
            newest = 0
        if newest < arrival.signature[2]:
            self._done_anyway[arrival.name] = arrival.signature
        if now is not None:
            # Its date may have been set since it was taken.
            self._signatures.put({arrival.name: signature_of(now)[1:]})

    def _undone(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        unknown: dict[str, Entry] = {}
        for arrival in arrivals:
            name, signature = arrival.name, arrival.signature
            if name in self._in_hand or self._done_anyway.get(name) == signature:
                continue
            job = self._directories.job(name)
            is_other = self._is_other(name, signature)
            if is_other or all(time < signature[2] for time in self._times(job)):
                yield arrival
                continue
            # By its dates alone, as earlier versions did.
            unknown[name] = signature[1:]
            if not self.inbox.first_scan_is_over:
                has_output = job.output.is_file()
                self.succeeded_earlier += has_output
                self.failed_earlier += not has_output
        self._signatures.put(unknown)

    def _times(self, job: FileJob) -> Iterator[int]:
        """Return the dates of a file's results, without the error of another task."""
        output, error = _stat(job.output), _stat(job.error)
        if output is not None and stat.S_ISREG(output.st_mode):
            yield output.st_mtime_ns
        if error is not None and stat.S_ISREG(error.st_mode):
            time_ns = error.st_mtime_ns
            known = self._errors.get(job.error)
            if known is None or known[0] != time_ns:
                known = time_ns, is_error_of(job, self._task)
                self._errors[job.error] = known
            # Another that fails on it as well writes its own in the place of ours.
            if known[1] or job.input.name in self._failed:
                yield time_ns

    def _make_older(self, job: FileJob, than_ns: int) -> None:
        """Mark a result as one of an earlier content, also for the next start."""
        paths = [job.output]
        if is_error_of(job, self._task):
            paths.append(job.error)
        for path in paths:
            try:
                os.utime(path, ns=(than_ns - 1, than_ns - 1))
            except OSError:
                # That of a colleague, who alone may date it.
                with contextlib.suppress(OSError):
                    path.unlink()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _signature(path: Path) -> Signature | None:
    status = _stat(path)
    return None if status is None else signature_of(status)


def _has_new_content(before: Signature, now: os.stat_result) -> bool:
    inode, size, mtime_ns = signature_of(now)
    if (inode, size) != before[:2] or mtime_ns > before[2]:
        return True
    # Copying tools set an older date once they have closed the file: no new content.
    return mtime_ns < before[2] and now.st_ctime_ns - before[2] > COPYING_NS


def _metrics(job: FileJob, outcome: Outcome) -> str:
    return json.dumps(
        {
            "file": job.input.name,
            "started_at": outcome.started_at,
            "finished_at": outcome.finished_at,
            "status": "success" if outcome.failure is None else "error",
        },
    )
