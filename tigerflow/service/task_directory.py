"""The undone files of a directory, for the command line of a single task."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tigerflow.errors import (
    START_AGAIN,
    InputDirectoryError,
    StorageError,
    TigerflowError,
)
from tigerflow.files import trouble_with
from tigerflow.log import METRICS, logger
from tigerflow.naming import files_word, printable
from tigerflow.service.directories import Directories
from tigerflow.service.directory_results import DirectoryResults
from tigerflow.service.inbox import TROUBLE_PAUSE_S, Arrival, Inbox
from tigerflow.tasks.execution import Attempt
from tigerflow.tasks.file_job import FileJob
from tigerflow.unmatched import unmatched


@dataclass(frozen=True)
class Outcome:
    """What became of one file; times are UTC, ISO 8601 with offset, if known."""

    started_at: str | None
    finished_at: str | None
    #: One line on why it has an `.err`; None for one that has an output.
    failure: str | None


class DirectorySource:
    """The undone files of a directory, as they arrive, in order of their names."""

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
        """Offer to `task` the files that exist and, without `once`, those that arrive.

        `grace_s` is how long files in progress may take after a stop, in seconds;
        `progress` gets one line with counts whenever they change.
        """
        self._directories = directories
        self._results = DirectoryResults(directories, task)
        self._grace_s = grace_s
        self._once = once
        self._progress = progress
        self._queue: deque[Arrival] = deque()
        self._in_hand: dict[str, Arrival] = {}
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
        #: Files whose result or error existed at the start.
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
                logger.info("Inputs and results can be read and written again")
                # The files that were given back are found by it.
                self.inbox.scan_now()
            elif not problem.is_outage:
                self.stop_for(problem)

    def _see_input(self, trouble: InputDirectoryError | None) -> None:
        if trouble is not None:
            logger.error("{}; paused until this is fixed", trouble)
        else:
            logger.info("Inputs can be read again")

    def batch(self, limit: int) -> list[FileJob]:
        """Wait for an undone file; return it, with others that wait already."""
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
            signature = self._results.take(job)
            if signature is not None:
                # It may have changed while it waited.
                self._in_hand[name] = Arrival(name, signature)
                return job
            # It went away while it waited.
            del self._in_hand[name]
        return None

    def _refill(self) -> bool:
        batch = self.inbox.batch(wait=not self._once) or []
        if self.inbox.first_scan_is_over and not self._has_told_of_earlier:
            self._tell_of_earlier()
        # An event and a scan may both have reported a file.
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
            hint = "to retry one, delete its '.err'"
            logger.warning(
                "Failed earlier: {} {}; {}", failed, files_word(failed), hint
            )

    def started(self, job: FileJob) -> None:
        """Log it."""
        logger.info("Starting processing: {}", printable(job.input.name))
        self._show_progress()

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Log what became of a file, and settle it."""
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
        logger.log(METRICS, "{}", _metrics(job, outcome))
        taken = self._in_hand.pop(job.input.name).signature
        if not self._results.settle(job, taken, outcome.failure):
            # It is processed again.
            self.inbox.scan_now()
        self._show_progress()

    def give_back(self, job: FileJob) -> None:
        """Offer a file again, with the next scan: nobody has run it to its end."""
        self._in_hand.pop(job.input.name, None)

    def _show_progress(self) -> None:
        self._progress(
            f"{self.succeeded} done, {self.failed} failed, "
            f"{len(self._in_hand) - len(self._queue)} in progress, "
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
                "{}; paused until this is fixed",
                self._trouble.removesuffix(START_AGAIN),
            )

    def stop_for(self, error: TigerflowError) -> None:
        """Stop because of an error, which is logged."""
        if self.error is None:
            self.error = error
            logger.error("{}", error)
        self.stop()

    def _undone(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        done: list[Arrival] = []
        for arrival in arrivals:
            if arrival.name in self._in_hand:
                continue
            if self._results.is_undone(arrival):
                yield arrival
                continue
            done.append(arrival)
            if not self.inbox.first_scan_is_over:
                has_output = self._directories.job(arrival.name).output.is_file()
                self.succeeded_earlier += has_output
                self.failed_earlier += not has_output
        # By its dates alone, as earlier versions judged.
        self._results.record(done)


def _metrics(job: FileJob, outcome: Outcome) -> str:
    return json.dumps(
        {
            "file": job.input.name,
            "started_at": outcome.started_at,
            "finished_at": outcome.finished_at,
            "status": "success" if outcome.failure is None else "error",
        },
    )
