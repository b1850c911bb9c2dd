"""The service's loop: stage what has arrived, start windows of it, see when it is over.

Which state each file is in, the ledger knows. What stands of it is judged three times:
when it arrives (`admission`), when its window begins, and when that has ended
(`windows`), since each time much may have happened in between.
"""

import asyncio
import contextlib
import shlex
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from tigerflow.engine.window import WindowRunner
from tigerflow.errors import InputDirectoryError, InternalError, SnakemakeError
from tigerflow.log import logger
from tigerflow.naming import files_word, printable, snakemake_problem
from tigerflow.rundir.history import History
from tigerflow.rundir.judgement import Status
from tigerflow.rundir.plan import Plan
from tigerflow.service.admission import Admission, Admitted
from tigerflow.service.arrivals import Arrivals
from tigerflow.service.file_results import Results
from tigerflow.service.inbox import Arrival, Inbox
from tigerflow.service.ledger import Counts, Ledger
from tigerflow.service.options import ServiceOptions
from tigerflow.service.removal import InputRemoval
from tigerflow.service.storage import Storage
from tigerflow.service.windows import Windows, Workers
from tigerflow.shortage import in_thread

#: How often the staging steps look at waiting files again: ages and companions change.
STAGING_INTERVAL_S = 1.0


@dataclass
class LoopParts:
    """What a loop joins."""

    plan: Plan
    run_dir: Path
    input_dir: Path
    ledger: Ledger
    storage: Storage
    windows: WindowRunner
    workers: Workers
    #: Reads what earlier runs left in the journal.
    read_history: Callable[[], History]
    #: How long files in progress may still take after a stop, in seconds.
    grace_s: float
    #: The staging steps: which of the waiting files are to be staged.
    select: Callable[[list[Arrival], Counts], Collection[Arrival]]


class Loop:
    """One run of the service over one run directory."""

    def __init__(self, parts: LoopParts, options: ServiceOptions) -> None:
        """Join the parts; nothing is looked at yet. In a running event loop."""
        self.parts = parts
        self.ledger = parts.ledger
        self.storage = parts.storage
        self._options = options
        results = Results(parts.plan, parts.run_dir, parts.input_dir)
        self.admission = Admission(self.ledger, results, options, parts.read_history)
        self._results = results
        self._removal = InputRemoval(parts.input_dir, parts.run_dir)
        self._event = asyncio.Event()
        self._windows = Windows(
            parts.plan,
            parts.run_dir,
            options,
            self.ledger,
            results,
            self.admission,
            self.storage,
            self._removal,
            parts.windows,
            parts.workers,
            self._event,
        )
        self.arrivals = Arrivals(
            self.admission,
            results,
            asyncio.get_running_loop(),
            self._arrived,
            self._see_input,
            self.fail,
        )
        #: Why it ends, for the journal: it was stopped, unless all that was asked is
        #: done.
        self.end = "stopped"
        #: Whether all files that existed at the start are known.
        self.has_scanned = False
        #: When files last waited for the storage, by the loop's clock.
        self._blocked_at = 0.0
        self._has_lost_input = False
        #: Set when nothing more is begun.
        self._over = False
        #: Whether errors have been removed, so that files are to be retried.
        self._retry_asked = False
        #: What has happened to a part of the service that nobody expected.
        self._fault: BaseException | None = None

    async def run(self, inbox: Inbox) -> None:
        """Serve until stopped, or until the options say that it is over.

        Raises:
            InternalError: something happened that nobody expected.
            SnakemakeError: Snakemake cannot run.
        """
        await in_thread(self._removal.recover)
        await in_thread(self.admission.begin)
        arriving = asyncio.create_task(self.arrivals.hand_on(inbox))
        try:
            await self._serve()
        finally:
            self._over = True
            inbox.stop()
            await arriving

    async def _serve(self) -> None:
        """Start windows until it is over."""
        loop = asyncio.get_running_loop()
        windows = self._windows
        windows.last_end = loop.time()
        windows.trials.begin()
        while windows.are_running or not self.is_stopping:
            self._event.clear()
            if self._fault is not None:
                raise InternalError(self._fault)
            if windows.trials.failure is not None:
                raise SnakemakeError(windows.trials.failure)
            if self._retry_asked and self.has_scanned:
                await self._retry_failed()
            if not self.is_stopping:
                self._start_more(loop.time())
            busy_at = max(windows.last_end, self._blocked_at)
            if not windows.are_running and self._is_over(loop.time() - busy_at):
                self.end = "finished"
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), STAGING_INTERVAL_S)

    def _start_more(self, now: float) -> None:
        """Stage files and start windows, unless inputs or results cannot be used."""
        if self.storage.is_open():
            self._stage()
            self._windows.start()
        elif self.ledger.waiting:
            # These files wait for the storage: that is not idleness.
            self._blocked_at = now

    def _is_over(self, idle_s: float) -> bool:
        if not self.has_scanned or self._retry_asked or self._has_lost_input:
            return False
        if self.ledger.has_work:
            return False
        if self._options.once:
            return not self.ledger.waiting or idle_s > 2 * STAGING_INTERVAL_S
        timeout = self._options.idle_timeout_s
        if timeout is None or idle_s < timeout:
            return False
        logger.info("Idle timeout reached, initiating shutdown")
        return True

    # What others ask of it

    def fail(self, error: BaseException) -> None:
        """End at once: a part of the service is gone, and it would wait forever."""
        if self._fault is None:
            self._fault = error
            logger.opt(exception=error).error("Internal error")
        self._event.set()

    def stop(self) -> None:
        """Start no more windows; `run` returns when those that run have ended.

        Files that take longer than the grace time are given up.
        """
        if not self.is_stopping:
            loop = asyncio.get_running_loop()
            loop.call_later(self.parts.grace_s, self.parts.workers.stop)
        self._windows.is_stopping = True
        self.parts.workers.drain()
        self._event.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it only finishes what is in progress."""
        return self._windows.is_stopping

    def retry(self) -> bool:
        """Retry the failed files whose errors have been removed, if it still can."""
        if self.is_stopping or self._over:
            return False
        self._retry_asked = True
        self._event.set()
        return True

    async def _retry_failed(self) -> None:
        """Have failed files wait again whose errors have been removed."""
        self._retry_asked = False
        stems = list(map(self._results.stem, self.ledger.failures()))
        await in_thread(self._results.see_errors, stems)
        for arrival in self.ledger.failures():
            if snakemake_problem(self._results.stem(arrival)) is None:
                found = self._results.judge(arrival)
                is_failed = found.status is Status.FAILED
                has_input = is_failed or self._results.has_input(arrival.name)
                self.ledger.retry(arrival, found, has_input=has_input)

    # What arrives

    def _see_input(self, trouble: InputDirectoryError | None) -> None:
        """Start nothing while the input directory cannot be read."""
        self._has_lost_input = trouble is not None
        if trouble is not None:
            self.storage.pause(str(trouble))
        elif self.storage.probe():
            self.storage.recover()
        self._event.set()

    def _arrived(self, admitted: Admitted, are_all_known: bool) -> None:  # noqa: FBT001 -- a callback
        self.admission.record(self.ledger.find(admitted.found))
        done = {arrival.name: tasks for arrival, tasks in admitted.fresh}
        # Again: the inbox's thread looked while the ledger was being written.
        for arrival in self.ledger.unknown(each for each, _ in admitted.fresh):
            name = arrival.name
            problem = snakemake_problem(self._results.stem(arrival))
            if problem is None:
                self.ledger.arrive(arrival, done[name])
            elif name not in self.ledger.settled:
                logger.error("Skipping {}: {}; rename it", printable(name), problem)
                self.ledger.refuse(arrival)
        if are_all_known and not self.has_scanned:
            self.has_scanned = True
            self.admission.report_outdated()
            self._report_found()
        self._event.set()

    def _report_found(self) -> None:
        """Log what earlier runs have left, unless something else reports it."""
        found = self.ledger.found
        failed, done = found[Status.FAILED], found[Status.DONE]
        if failed:
            where = shlex.quote(printable(str(self.parts.run_dir)))
            hint = f"see `tigerflow report {where}`, or `tigerflow retry {where}`"
            logger.warning("{} {} failed earlier; {}", failed, files_word(failed), hint)
        elif done and self.ledger.counts() == Counts(done=done):
            is_are = "is" if done == 1 else "are"
            logger.info("Nothing to do: {} {} {} done", done, files_word(done), is_are)

    def _stage(self) -> None:
        waiting = list(self.ledger.waiting.values())
        if not waiting:
            return
        chosen = self.parts.select(waiting, self.ledger.counts())
        if not chosen:
            return
        counts: Counter[str] = Counter()
        for arrival in chosen:
            left = self.ledger.tally.left_of(arrival.name)
            is_known = self.admission.is_proven(arrival)
            counts[_staged_as(left, is_known=is_known)] += 1
        self.ledger.stage(chosen, self.admission.is_proven)
        self.admission.record(chosen)
        for sentence, count in counts.items():
            logger.info(sentence, count=count, files=files_word(count))


def _staged_as(left: tuple[str, ...] | None, *, is_known: bool) -> str:
    """Return what to log of files that are staged; `left` are tasks with work to do."""
    if left is None:
        again = "Staged {count} {files} again"
        return again if is_known else "Staged {count} new {files}"
    if not left:
        return "Staged {count} {files} that already have results"
    has = "has" if len(left) == 1 else "have"
    return f"Staged {{count}} {{files}}; only {', '.join(left)} {has} work to do"
