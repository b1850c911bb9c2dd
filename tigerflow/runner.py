"""The service's loop: stage what has arrived, run windows of it, record what is done.

A file is *waiting* until the staging steps let it go, *staged* until it is *done* or
*failed*. A staged file is in at most one window at a time. When a window has ended, the
file system says what became of its files, and the journal records it.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from tigerflow.engine.forks import ForkError
from tigerflow.engine.window import WindowExit, WindowRunner
from tigerflow.errors import OutputDirectoryError
from tigerflow.files import create_temporary, discard
from tigerflow.history import History, read_history
from tigerflow.inbox import Arrival, Inbox, InputDirectoryError, signature_of
from tigerflow.journal import Journal, now, read
from tigerflow.layout import JOURNAL, STATE
from tigerflow.log import logger
from tigerflow.naming import printable, snakemake_problem, stem_of
from tigerflow.tally import Tally
from tigerflow.targets import (
    Assessment,
    Mtime,
    Reach,
    Status,
    Targets,
    mtimes_listed,
    mtimes_on_disk,
)
from tigerflow.tasks.execution import ErrorRecord, FileJob, write_error

#: Files in a window: Snakemake's time a file is flat up to here, and grows beyond.
WINDOW_SIZE = 100

#: Windows at once that plan, or that are all there is for the workers to do: more
#: would only share the cores.
BUSY_WINDOWS = min(max(2, len(os.sched_getaffinity(0))), 4)

#: Windows at once at the most; the others wait for slow tasks, and hold 15 MB each.
MOST_WINDOWS = 24

#: How often a file is tried whose window ended without a word on it.
ATTEMPTS = 3

#: How often the staging steps look at waiting files again: ages and companions change.
STAGING_INTERVAL_S = 1.0

#: How long nothing is started when results cannot be stored, before the next try.
STORAGE_PAUSE_S = 2.0

#: Room that there must be for anything to be tried again: a small result, an `.err`.
PROBE_BYTES = 16 * 1024


@dataclass(eq=False)
class StagedFile:
    """A file on its way."""

    arrival: Arrival
    stem: str
    attempts: int = 0
    #: The tasks whose outputs its window was asked for.
    asked: tuple[str, ...] = ()
    #: Whether results that are there are known to be of this content.
    proven: bool = False


@dataclass(eq=False)
class _Window:
    process: BaseProcess
    files: list[StagedFile]


@dataclass(frozen=True)
class Counts:
    """How many files are in each state."""

    waiting: int = 0
    staged: int = 0
    done: int = 0
    failed: int = 0


class Ledger:
    """Which files are known, by name, and in which state.

    Written by the event loop only; the inbox's thread looks things up in it.
    """

    def __init__(self) -> None:
        """Start with no file known."""
        self.waiting: dict[str, Arrival] = {}
        self.staged: dict[str, StagedFile] = {}
        self.settled: dict[str, tuple[Arrival, Status]] = {}
        #: Those of `staged` that only wait for a task that cannot run.
        self.stuck: set[str] = set()
        self.failed = 0

    def unknown(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Leave out files that are in hand, or settled and unchanged since."""
        for arrival in arrivals:
            if arrival.name in self.staged or self.waiting.get(arrival.name) == arrival:
                continue
            settled = self.settled.get(arrival.name)
            if settled is None or settled[0].signature != arrival.signature:
                yield arrival

    def settle(self, arrival: Arrival, status: Status) -> None:
        """Note that a file is done or failed."""
        self.forget(arrival.name)
        self.settled[arrival.name] = (arrival, status)
        self.failed += status is Status.FAILED

    def forget(self, name: str) -> None:
        """Drop a file from all states."""
        self.waiting.pop(name, None)
        self.staged.pop(name, None)
        self.stuck.discard(name)
        previous = self.settled.pop(name, None)
        self.failed -= previous is not None and previous[1] is Status.FAILED

    def counts(self) -> Counts:
        """Count the files by state."""
        done = len(self.settled) - self.failed
        staged = len(self.staged) - len(self.stuck)
        return Counts(len(self.waiting), staged, done, self.failed)


class Workers(Protocol):
    """What the runner asks the worker host."""

    @property
    def stuck(self) -> dict[str, str]:
        """The tasks that cannot run, with the reason."""

    @property
    def crowded(self) -> Collection[str]:
        """The tasks that have more files than their workers take at once."""

    def drain(self) -> None:
        """Take no more files; those in hand are finished."""

    def stop(self) -> None:
        """Give up the files in hand."""


@dataclass(frozen=True)
class RunnerOptions:
    """How the service was asked to behave."""

    #: Stop after so long without an unfinished file; None: never.
    idle_timeout_s: float | None = None
    #: Stop when all that is there now is finished.
    once: bool = False
    delete_input: bool = False
    retry_failed: bool = False
    #: Process files again that a task processed before it changed.
    rerun_changed: bool = False
    keep_metadata: bool = True


@dataclass
class RunnerParts:
    """What a runner joins."""

    targets: Targets
    run_dir: Path
    input_dir: Path
    windows: WindowRunner
    workers: Workers
    journal: Journal
    #: Task -> what changes with its code and params.
    versions: Mapping[str, str]
    #: How long files in hand may still take after a stop.
    grace_s: float
    select: Callable[[list[Arrival], Counts], Collection[Arrival]]


@dataclass
class Runner:
    """One run of the service over one run directory."""

    parts: RunnerParts
    options: RunnerOptions
    ledger: Ledger = field(default_factory=Ledger)
    tally: Tally = field(init=False)
    _ready: deque[StagedFile] = field(default_factory=deque)
    #: By task: files of which there is nothing to do before it takes more files.
    _held: dict[str, deque[StagedFile]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    _running: set[_Window] = field(default_factory=set)
    _event: asyncio.Event = field(default_factory=asyncio.Event)
    _listed: Mtime | None = None
    _scanned: bool = False
    _stopping: bool = False
    #: Settled by an earlier run, seen by the inbox's thread, on the way to the ledger.
    _found: list[tuple[Arrival, Assessment]] = field(default_factory=list)
    #: By name: what an earlier run has done of files that are still to be finished.
    _begun: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _history: History = field(default_factory=History)
    #: By task: stems found at the start that it processed before it changed.
    _outdated: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Stems of files whose results could not be stored.
    _blocked: set[str] = field(default_factory=set)
    #: Why nothing can be stored, while that is so.
    _trouble: str | None = None
    _paused_until: float = 0.0

    def __post_init__(self) -> None:
        """Count for the tasks of the pipeline."""
        self.tally = Tally(self.parts.targets.parents)

    async def run(self, inbox: Inbox) -> None:
        """Serve until stopped, or until the options say that it is over.

        Raises:
            InputDirectoryError: the input directory cannot be read.
        """
        loop = asyncio.get_running_loop()
        failures: list[InputDirectoryError] = []
        parts = self.parts
        events = read(parts.run_dir / JOURNAL)
        self._history = await asyncio.to_thread(read_history, events, parts.versions)
        self._listed = await asyncio.to_thread(
            mtimes_listed, parts.run_dir, parts.targets.directories
        )
        watching = threading.Thread(
            target=self._watch,
            args=(inbox, loop, failures),
            name="inbox",
            daemon=True,
        )
        watching.start()
        last_busy = loop.time()
        while self._running or not (self._stopping or failures):
            self._event.clear()
            if not self._stopping and self._can_store():
                self._stage()
                self._start_windows()
            if self._running:
                last_busy = loop.time()
            elif self._is_over(loop.time() - last_busy):
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), STAGING_INTERVAL_S)
        inbox.stop()
        await asyncio.to_thread(watching.join)
        for failure in failures:
            raise failure

    def stop(self) -> None:
        """Start no more windows; `run` returns when those that run have ended.

        Files that take longer than the grace time are given up.
        """
        if not self._stopping:
            loop = asyncio.get_running_loop()
            loop.call_later(self.parts.grace_s, self.parts.workers.stop)
        self._stopping = True
        self.parts.workers.drain()
        self._event.set()

    def blocked(self, stem: str, reason: str) -> None:
        """Note that a file's result could not be stored; it is not to blame."""
        self._blocked.add(stem)
        self._pause(reason)

    def tried(self, stem: str, task: str, succeeded: bool) -> None:  # noqa: FBT001 -- a callback
        """Note what a task has made of a file, long before its window may end."""
        name = stem + self.parts.targets.input_ext
        if name in self.ledger.staged:
            self.tally.note(name, task, succeeded=succeeded)

    def _pause(self, reason: str) -> None:
        if self._trouble is None:
            logger.error("{}; waiting for that", reason.removesuffix(_START_AGAIN))
        self._trouble = reason
        self._paused_until = asyncio.get_running_loop().time() + STORAGE_PAUSE_S

    def _can_store(self) -> bool:
        """Tell whether it makes sense to start anything."""
        if asyncio.get_running_loop().time() < self._paused_until:
            return False
        problem = self.parts.journal.flush()
        if problem is None and self._trouble is not None:
            problem = self._probe()
        if problem is not None:
            self._pause(str(OutputDirectoryError(self.parts.run_dir, problem)))
        return problem is None

    def _probe(self) -> OSError | None:
        """Return why nothing can be stored, or None."""
        try:
            path = create_temporary(self.parts.run_dir / STATE / "probe")
        except OSError as error:
            return error
        try:
            path.write_bytes(bytes(PROBE_BYTES))
        except OSError as error:
            return error
        finally:
            discard(path)
        return None

    @property
    def is_stopping(self) -> bool:
        """Whether it only finishes what is in hand."""
        return self._stopping

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored, while that is so."""
        return self._trouble

    @property
    def has_scanned(self) -> bool:
        """Whether all files that were there at the start are known."""
        return self._scanned

    def retry(self) -> None:
        """Take up the failed files whose errors have been removed."""
        for name, (arrival, status) in list(self.ledger.settled.items()):
            stem = stem_of(name, self.parts.targets.input_ext)
            if status is not Status.FAILED or snakemake_problem(stem) is not None:
                continue
            found = self._assess(arrival)
            self.tally.judge(name, found.done, found.failed)
            if found.status is not Status.FAILED:
                self.ledger.forget(name)
                self.ledger.waiting[name] = arrival
                self.parts.journal.append("file_forgotten", file=name)
        self._event.set()

    def _is_over(self, idle_s: float) -> bool:
        if not self._scanned or self._ready or self._held:
            return False
        if self.options.once:
            return not self.ledger.waiting or idle_s > 2 * STAGING_INTERVAL_S
        timeout = self.options.idle_timeout_s
        if timeout is None or idle_s < timeout:
            return False
        logger.info("Idle timeout reached, initiating shutdown")
        return True

    # Arrival: in the inbox's thread, then in the loop

    def wanted(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Leave out files that are in hand, settled, or finished by an earlier run.

        At the start the directories say what is finished: by a service that crashed, or
        by plain Snakemake. For the inbox, in its thread.
        """
        for arrival in self.ledger.unknown(arrivals):
            listed = self._listed
            if listed is None or self._is_replaced(arrival):
                yield arrival
                continue
            found = self._assess(arrival, listed)
            is_outdated = self._is_outdated(arrival)
            if is_outdated or self._is_unfinished(found):
                self._begun[arrival.name] = () if is_outdated else found.done
                yield arrival
            else:
                self._found.append((arrival, found))

    def _is_unfinished(self, found: Assessment) -> bool:
        to_delete = self.options.delete_input and found.status is Status.DONE
        is_undone = found.status is Status.UNDONE
        return is_undone or to_delete or self._is_retried(found)

    def _is_outdated(self, arrival: Arrival) -> bool:
        """Tell whether a task that has changed is to process the file again."""
        stem = stem_of(arrival.name, self.parts.targets.input_ext)
        tasks = self._history.outdated_tasks(stem)
        for task in tasks:
            self._outdated[task].add(stem)
        return bool(tasks) and self.options.rerun_changed

    def _report_outdated(self) -> None:
        """Tell how many files tasks processed before they changed."""
        again = "they are processed again"
        hint = "--rerun-changed processes them again"
        for task, stems in sorted(self._outdated.items()):
            logger.warning(
                "[{}] has changed since it processed {} {}: {}",
                task,
                len(stems),
                _files(len(stems)),
                again if self.options.rerun_changed else hint,
            )

    def _is_replaced(self, arrival: Arrival) -> bool:
        """Tell whether an earlier run had other content, which times would not say."""
        _, size, mtime_ns = arrival.signature
        before = self._history.settled.get(arrival.name)
        if before is None or before == (size, mtime_ns):
            return False
        return mtime_ns <= before[1]

    def _watch(
        self,
        inbox: Inbox,
        loop: asyncio.AbstractEventLoop,
        failures: list[InputDirectoryError],
    ) -> None:
        def tell(function: Callable[..., object], *values: object) -> None:
            # The loop may be over already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(function, *values)

        try:
            all_known = False
            while (batch := inbox.batch(wait=all_known)) is not None:
                if not batch:
                    # All that was there at the start is known.
                    all_known = True
                    self._listed = None
                found, self._found = self._found, []
                tell(self._arrived, batch, found, all_known)
        except InputDirectoryError as error:
            failures.append(error)
            tell(self._event.set)

    def _is_retried(self, found: Assessment) -> bool:
        return found.status is Status.FAILED and self.options.retry_failed

    def _assess(
        self,
        arrival: Arrival,
        mtime: Callable[[str], int | None] | None = None,
    ) -> Assessment:
        parts = self.parts
        stem = stem_of(arrival.name, parts.targets.input_ext)
        look = mtime or mtimes_on_disk(parts.run_dir)
        return parts.targets.assess(stem, arrival.signature[2], look)

    def _arrived(
        self,
        batch: list[Arrival],
        found: Iterable[tuple[Arrival, Assessment]] = (),
        all_known: bool = True,  # noqa: FBT001, FBT002 -- call_soon has no keywords
    ) -> None:
        for arrival, assessment in found:
            self.ledger.settle(arrival, assessment.status)
            self.tally.judge(arrival.name, assessment.done, assessment.failed)
        for arrival in batch:
            name = arrival.name
            stem = stem_of(name, self.parts.targets.input_ext)
            problem = snakemake_problem(stem)
            if problem is None:
                if name in self.ledger.settled or self._is_replaced(arrival):
                    # Its results are not of this content, whatever the times say.
                    self._discard_results(stem)
                self.ledger.forget(name)
                self.ledger.waiting[name] = arrival
                self.tally.judge(name, self._begun.pop(name, ()), ())
            elif name not in self.ledger.settled:
                logger.error("Skipping {}: {}; rename it", printable(name), problem)
                self.ledger.settle(arrival, Status.FAILED)
                self.tally.refuse(name)
        if all_known and not self._scanned:
            self._scanned = True
            self._report_outdated()
        self._event.set()

    def _discard_results(self, stem: str, since: Collection[str] | None = None) -> None:
        for path in self.parts.targets.results(stem, since):
            # One that cannot be removed cannot be replaced either: that will be said.
            with contextlib.suppress(OSError):
                (self.parts.run_dir / path).unlink()

    # From waiting to a window

    def _stage(self) -> None:
        waiting = list(self.ledger.waiting.values())
        if not waiting:
            return
        chosen = self.parts.select(waiting, self.ledger.counts())
        if not chosen:
            return
        self.parts.journal.append("staged", files=[each.name for each in chosen])
        for arrival in chosen:
            del self.ledger.waiting[arrival.name]
            stem = stem_of(arrival.name, self.parts.targets.input_ext)
            known = self._history.settled.get(arrival.name) == arrival.signature[1:]
            staged = StagedFile(arrival, stem, proven=known)
            self.ledger.staged[arrival.name] = staged
            self._ready.append(staged)
        logger.info("Staged {} new {}", len(chosen), _files(len(chosen)))

    def _start_windows(self) -> None:
        while self._may_start():
            crowded = self._crowded()
            self._release(crowded)
            files, targets = self._fill_window(crowded)
            if not targets:
                return
            try:
                process = self.parts.windows.start(
                    targets,
                    keep_metadata=self.options.keep_metadata,
                )
            except ForkError as error:
                # The next look tries again.
                logger.warning("{}", error)
                self._ready.extendleft(reversed(files))
                return
            window = _Window(process, files)
            self._running.add(window)
            loop = asyncio.get_running_loop()
            loop.add_reader(process.sentinel, self._ended, window)

    def _may_start(self) -> bool:
        planning = self.parts.windows.planning
        return planning < BUSY_WINDOWS and len(self._running) < MOST_WINDOWS

    def _crowded(self) -> Collection[str]:
        """Return the tasks that no window is to ask for just now.

        A window lives as long as its slowest file. Without this, some that wait for a
        slow task would be all there may be, and new files would wait for nothing.
        """
        if len(self._running) < BUSY_WINDOWS:
            # The workers must not wait for the next files.
            return ()
        return self.parts.workers.crowded

    def _release(self, crowded: Collection[str]) -> None:
        """Look again at files that were held for a task that takes files now."""
        for task in self._held.keys() - set(crowded):
            held = self._held[task]
            some = [held.popleft() for _ in range(min(WINDOW_SIZE, len(held)))]
            self._ready.extendleft(reversed(some))
            if not held:
                del self._held[task]

    def _fill_window(
        self, crowded: Collection[str]
    ) -> tuple[list[StagedFile], list[str]]:
        files: list[StagedFile] = []
        targets: list[str] = []
        # No more than these are looked at in one go: the loop has other things to do.
        for _ in range(min(WINDOW_SIZE, len(self._ready))):
            file = self._ready.popleft()
            reach = self._reach(file, crowded)
            if reach.wanted:
                file.asked = tuple(reach.wanted)
                targets += reach.wanted.values()
                files.append(file)
            elif reach.stopped_at is not None:
                self._held[reach.stopped_at].append(file)
        return files, targets

    def _reach(self, file: StagedFile, crowded: Collection[str]) -> Reach:
        """Return what is to be made of a file now; settle it if it is finished."""
        if self.options.rerun_changed and self._is_there(file):
            # Only now: were it not for a window, its results would be missed for long.
            if outdated := self._history.outdated_tasks(file.stem):
                self._discard_results(file.stem, outdated)
            self._history.forget(file.stem)
        look = mtimes_on_disk(self.parts.run_dir)
        found = self._assess(file.arrival)
        if self._is_retried(found):
            look = self._without_errors
            found = self._assess(file.arrival, look)
        self.tally.judge(file.arrival.name, found.done, found.failed)
        if found.status is not Status.UNDONE:
            self._settle(file, found.status)
            return Reach({}, None)
        if not crowded:
            return Reach(dict(zip(found.undone, found.targets, strict=True)), None)
        since_ns = file.arrival.signature[2]
        return self.parts.targets.within_reach(file.stem, since_ns, look, crowded)

    def _without_errors(self, path: str) -> int | None:
        return (
            None if path.endswith(".err") else mtimes_on_disk(self.parts.run_dir)(path)
        )

    # What became of a window

    def _ended(self, window: _Window) -> None:
        asyncio.get_running_loop().remove_reader(window.process.sentinel)
        code = self.parts.windows.end(window.process)
        self._running.discard(window)
        if code != WindowExit.DONE and (problem := self._probe()) is not None:
            # Snakemake itself could not write, perhaps.
            self._pause(str(OutputDirectoryError(self.parts.run_dir, problem)))
            self._blocked |= {file.stem for file in window.files}
        gone = {file.stem for file in window.files if not self._is_there(file)}
        done = failed = 0
        for file in window.files:
            file.proven = True
            status = self._judge(file, gone)
            done += status is Status.DONE
            failed += status is Status.FAILED
            self._blocked.discard(file.stem)
        if done:
            if self._trouble is not None:
                logger.info("Results can be stored again")
            self._trouble = None
            logger.info("Completed processing {} {}", done, _files(done))
        if failed:
            logger.error("{} failed {}", failed, _files(failed))
        self._event.set()

    def _is_there(self, file: StagedFile) -> bool:
        return (self.parts.input_dir / file.arrival.name).exists()

    def _judge(self, file: StagedFile, gone: Collection[str]) -> Status:
        found = self._assess(file.arrival)
        if file.stem in gone and self._has_only_missed_it(file, found):
            # When it comes back, it is a file like any other.
            self._discard_errors(file, found)
            found = self._assess(file.arrival)
        self.tally.judge(file.arrival.name, found.done, found.failed)
        if found.status is not Status.UNDONE:
            self._settle(file, found.status)
        elif file.stem in gone:
            logger.warning("{} is gone", printable(file.arrival.name))
            self.ledger.forget(file.arrival.name)
            self.tally.forget(file.arrival.name)
        elif self._waits_for_stuck(found):
            self.ledger.stuck.add(file.arrival.name)
        elif self._stopping or gone or file.stem in self._blocked:
            # Not its fault: nobody wants it any more, another's input was gone and
            # so nothing was run, or there was no room.
            self._ready.append(file)
        elif self._is_made(file):
            # What is left of it was not asked for.
            self._ready.append(file)
        else:
            self._try_again(file, found)
        return found.status

    def _is_made(self, file: StagedFile) -> bool:
        """Tell whether all that was asked for is there."""
        look = mtimes_on_disk(self.parts.run_dir)
        since_ns = file.arrival.signature[2]
        return self.parts.targets.are_there(file.asked, file.stem, since_ns, look)

    def _has_only_missed_it(self, file: StagedFile, found: Assessment) -> bool:
        """Tell whether a task failed because its input file was no longer there."""
        kinds = set()
        for task in found.failed:
            path = self.parts.run_dir / self.parts.targets.error_path(task, file.stem)
            with contextlib.suppress(OSError, ValueError):
                kinds.add(json.loads(path.read_bytes()).get("exception_type"))
        return kinds == {FileNotFoundError.__name__}

    def _discard_errors(self, file: StagedFile, found: Assessment) -> None:
        for task in found.failed:
            path = self.parts.targets.error_path(task, file.stem)
            discard(self.parts.run_dir / path)

    def _waits_for_stuck(self, found: Assessment) -> bool:
        stuck = self.parts.workers.stuck
        return bool(found.undone) and all(
            stuck.keys() & self.parts.targets.lineage(task) for task in found.undone
        )

    def _try_again(self, file: StagedFile, found: Assessment) -> None:
        file.attempts += 1
        if file.attempts < ATTEMPTS:
            self._ready.append(file)
            return
        task, name = found.undone[0], file.arrival.name
        record = ErrorRecord(
            file=name,
            timestamp=now(),
            exception_type="NoResult",
            message=f"neither a result nor an error after {ATTEMPTS} tries; "
            "see .tigerflow/logs/snakemake.log",
            traceback="",
            task=task,
            printed="",
        )
        error = self.parts.targets.error_path(task, file.stem)
        job = FileJob(self.parts.input_dir / name, Path(found.targets[0]), error)
        with contextlib.suppress(OutputDirectoryError):
            write_error(job, record, self.parts.run_dir)
        self.tally.note(name, task, succeeded=False)
        self._settle(file, Status.FAILED)

    def _settle(self, file: StagedFile, status: Status) -> None:
        name = file.arrival.name
        _, size, mtime_ns = file.arrival.signature
        self.parts.journal.append(
            f"file_{status.value}", file=name, size=size, mtime_ns=mtime_ns
        )
        self.ledger.settle(file.arrival, status)
        if status is Status.DONE and self.options.delete_input and file.proven:
            self._delete_input(file.arrival)

    def _delete_input(self, arrival: Arrival) -> None:
        path = self.parts.input_dir / arrival.name
        try:
            # What was written meanwhile has not been processed.
            if signature_of(path.stat()) == arrival.signature:
                path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("Cannot remove {}: {}", printable(arrival.name), error)


#: What the message of a single task's command ends in: here, nobody has to.
_START_AGAIN = "; nothing is lost, start again when this is mended"


def _files(count: int) -> str:
    return "file" if count == 1 else "files"
