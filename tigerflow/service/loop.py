"""The service's loop: stage what has arrived, run windows of it, record what is done.

A file is *waiting* until the staging steps let it go, *staged* until it is *done* or
*failed*. A staged file is in at most one window at a time. When a window has ended, the
file system says what became of its files, and the journal records it.
"""

import asyncio
import contextlib
import os
import shlex
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from tigerflow.engine.forks import ForkError
from tigerflow.engine.window import WindowExit, WindowRunner
from tigerflow.errors import InputDirectoryError, InternalError, SnakemakeError
from tigerflow.log import logger
from tigerflow.naming import (
    NAMED_AT_MOST,
    files_word,
    printable,
    snakemake_problem,
    stem_of,
)
from tigerflow.rundir.events import (
    FileDone,
    FileFailed,
    FileForgotten,
    FilesFound,
    FilesStaged,
)
from tigerflow.rundir.history import History
from tigerflow.rundir.journal import Journal
from tigerflow.rundir.judgement import Judgement, Reach, Status
from tigerflow.rundir.plan import Plan
from tigerflow.service.admission import Found, Screening
from tigerflow.service.file_results import Results
from tigerflow.service.inbox import Arrival, Inbox
from tigerflow.service.ledger import Counts, Ledger, StagedFile
from tigerflow.service.options import RunnerOptions
from tigerflow.service.removal import InputRemoval
from tigerflow.service.storage import Storage
from tigerflow.service.tally import Tally
from tigerflow.service.trials import Trials
from tigerflow.shortage import in_thread

#: Files in a window: Snakemake's time a file is flat up to here, and grows beyond.
WINDOW_SIZE = 100

#: Windows at once that plan, or that are all there is for the workers to do: more
#: would only share the cores.
BUSY_WINDOWS = min(max(2, len(os.sched_getaffinity(0))), 4)

#: Windows at once at the most; the others wait for slow tasks, and hold 15 MB each.
MOST_WINDOWS = 24

#: Ends of windows that say what became of their files.
_UNDERSTOOD = frozenset({WindowExit.DONE, WindowExit.INPUT_MISSING})

#: How often a file is tried whose window ended without a word on it.
ATTEMPTS = 3

#: How often the staging steps look at waiting files again: ages and companions change.
STAGING_INTERVAL_S = 1.0


@dataclass(eq=False)
class _Window:
    process: BaseProcess
    files: list[StagedFile]


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


@dataclass
class RunnerParts:
    """What a runner joins."""

    plan: Plan
    run_dir: Path
    input_dir: Path
    windows: WindowRunner
    workers: Workers
    journal: Journal
    #: Tells what earlier runs left in the journal.
    read_history: Callable[[], History]
    #: How long files in hand may still take after a stop.
    grace_s: float
    select: Callable[[list[Arrival], Counts], Collection[Arrival]]


@dataclass
class Runner:
    """One run of the service over one run directory."""

    parts: RunnerParts
    options: RunnerOptions
    ledger: Ledger = field(default_factory=Ledger)
    #: Why it ends, for the journal: it is told to, unless all that was asked is done.
    end: str = "stopped"
    tally: Tally = field(init=False)
    storage: Storage = field(init=False)
    screening: Screening = field(init=False)
    _trials: Trials = field(init=False)
    _results: Results = field(init=False)
    _removal: InputRemoval = field(init=False)
    _ready: deque[StagedFile] = field(default_factory=deque)
    #: By task: files of which there is nothing to do before it takes more files.
    _held: dict[str, deque[StagedFile]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    _running: set[_Window] = field(default_factory=set)
    _event: asyncio.Event = field(default_factory=asyncio.Event)
    #: When the last window ended, or files last waited for the storage, by the loop's
    #: clock.
    _last_busy: float = 0.0
    _scanned: bool = False
    #: How many files have been staged.
    _places: int = 0
    #: How many files earlier runs have settled, by what became of them.
    _found: Counter[Status] = field(default_factory=Counter)
    _stopping: bool = False
    _has_lost_input: bool = False
    #: Set when nothing more is begun.
    _over: bool = False
    #: Whether errors have been removed, so that files are to be taken up again.
    _retry_asked: bool = False
    #: What has happened to a part of the service that nobody expected.
    _fault: BaseException | None = None
    #: Stems of files whose results could not be stored.
    _blocked: set[str] = field(default_factory=set)
    #: Files of windows that broke, until it is known whether Snakemake can run at all.
    _doubtful: list[StagedFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Join the parts; nothing is looked at yet."""
        parts = self.parts
        self.tally = Tally(parts.plan.parents)
        self.storage = Storage(parts.run_dir, parts.input_dir, parts.journal)
        self._trials = Trials(parts.windows, self.storage.probe, self._trial_ended)
        self._results = Results(parts.plan, parts.run_dir, parts.input_dir)
        self._removal = InputRemoval(parts.input_dir, parts.run_dir)
        self.screening = Screening(
            self.ledger, self._results, self.options, parts.read_history
        )

    async def run(self, inbox: Inbox) -> None:
        """Serve until stopped, or until the options say that it is over.

        Raises:
            SnakemakeError: it cannot run.
        """
        loop = asyncio.get_running_loop()
        await in_thread(self._removal.recover)
        await in_thread(self.screening.begin)
        watching = asyncio.create_task(in_thread(self._watch, inbox, loop))
        try:
            await self._serve()
        finally:
            self._over = True
            inbox.stop()
            await watching

    async def _serve(self) -> None:
        """Start windows until it is over."""
        loop = asyncio.get_running_loop()
        self._last_busy = loop.time()
        self._trials.begin()
        while self._running or not self._stopping:
            self._event.clear()
            if self._fault is not None:
                raise InternalError(self._fault)
            if self._trials.failure is not None:
                raise SnakemakeError(self._trials.failure)
            if self._retry_asked and self._scanned:
                await self._take_up()
            if not self._stopping:
                self._start_more(loop.time())
            if not self._running and self._is_over(loop.time() - self._last_busy):
                self.end = "finished"
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), STAGING_INTERVAL_S)

    def _start_more(self, now: float) -> None:
        """Stage files and start windows, unless inputs or results cannot be used."""
        if self.storage.is_open():
            self._stage()
            self._start_windows()
        elif self.ledger.waiting:
            # These files wait for the storage: that is not idleness.
            self._last_busy = now

    def fail(self, error: BaseException) -> None:
        """End at once: a part of the service is gone, and it would wait for ever."""
        if self._fault is None:
            self._fault = error
            logger.opt(exception=error).error("Internal error")
        self._event.set()

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
        self.storage.pause(reason)

    def tried(self, stem: str, task: str, succeeded: bool) -> None:  # noqa: FBT001 -- a callback
        """Note what a task has made of a file, long before its window may end."""
        name = stem + self.parts.plan.input_ext
        if name in self.ledger.staged:
            self.tally.note(name, task, succeeded=succeeded)

    def place(self, stem: str) -> int:
        """Return the place of a file in the order of staging."""
        staged = self.ledger.staged.get(stem + self.parts.plan.input_ext)
        return self._places if staged is None else staged.place

    @property
    def is_stopping(self) -> bool:
        """Whether it only finishes what is in hand."""
        return self._stopping

    @property
    def has_scanned(self) -> bool:
        """Whether all files that were there at the start are known."""
        return self._scanned

    def retry(self) -> bool:
        """Take up the failed files whose errors have been removed, if it still can."""
        if self._stopping or self._over:
            return False
        self._retry_asked = True
        self._event.set()
        return True

    async def _take_up(self) -> None:
        """Have failed files wait again whose errors have been removed."""
        self._retry_asked = False
        failed = [
            stem_of(name, self.parts.plan.input_ext)
            for name, (_, status) in self.ledger.settled.items()
            if status is Status.FAILED
        ]
        await in_thread(self._results.see_errors, failed)
        for name, (arrival, status) in list(self.ledger.settled.items()):
            stem = stem_of(name, self.parts.plan.input_ext)
            if status is not Status.FAILED or snakemake_problem(stem) is not None:
                continue
            found = self._results.judge(arrival)
            self.tally.judge(name, found.done, found.failed)
            if found.status is Status.FAILED:
                continue
            self.ledger.forget(name)
            self.parts.journal.append(FileForgotten(file=name))
            if self._results.has_input(name):
                self.ledger.waiting[name] = arrival
            else:
                self.tally.forget(name)

    def _is_over(self, idle_s: float) -> bool:
        if not self._scanned or self._retry_asked or self._has_lost_input:
            return False
        if self._ready or self._held or self._doubtful:
            return False
        if self.options.once:
            return not self.ledger.waiting or idle_s > 2 * STAGING_INTERVAL_S
        timeout = self.options.idle_timeout_s
        if timeout is None or idle_s < timeout:
            return False
        logger.info("Idle timeout reached, initiating shutdown")
        return True

    def _watch(self, inbox: Inbox, loop: asyncio.AbstractEventLoop) -> None:
        def tell(function: Callable[..., object], *values: object) -> None:
            # The loop may be over already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(function, *values)

        try:
            self._hand_on(inbox, tell)
        except Exception as error:  # noqa: BLE001 -- without it, the service would wait for ever
            tell(self.fail, error)

    def _hand_on(self, inbox: Inbox, tell: Callable[..., None]) -> None:
        """Hand arrivals on to the loop, until the inbox is stopped."""
        inbox.on_trouble = lambda trouble: tell(self._see_input, trouble)
        all_known = False
        handed_on: set[str] = set()
        while (batch := inbox.batch(wait=all_known)) is not None:
            if not all_known:
                handed_on.update(arrival.name for arrival in batch)
            if not batch:
                # All that was there at the start is known.
                all_known = True
                self.screening.end_start()
                # Windows may have begun: their errors are new, with or without inputs.
                tell(self._report_gone, self._results.forget_gone(handed_on))
                handed_on.clear()
                tell(self._report_unmatched, self._results.unmatched())
            fresh = self.screening.review(batch)
            tell(self._arrived, fresh, self.screening.take_found(), all_known)

    def _see_input(self, trouble: InputDirectoryError | None) -> None:
        """Start nothing while the input directory cannot be read."""
        self._has_lost_input = trouble is not None
        if trouble is not None:
            self.storage.pause(str(trouble))
        elif self.storage.probe():
            self.storage.recover()
        self._event.set()

    def _arrived(
        self,
        batch: list[Arrival],
        found: Sequence[Found] = (),
        all_known: bool = True,  # noqa: FBT001, FBT002 -- call_soon has no keywords
    ) -> None:
        self._take_found(found)
        # Again: the inbox's thread looked while the ledger was being written.
        for arrival in self.ledger.unknown(batch):
            name = arrival.name
            stem = stem_of(name, self.parts.plan.input_ext)
            problem = snakemake_problem(stem)
            if problem is None:
                self.ledger.forget(name)
                self.ledger.waiting[name] = arrival
                self.tally.judge(name, self.screening.take_begun(name), ())
            elif name not in self.ledger.settled:
                logger.error("Skipping {}: {}; rename it", printable(name), problem)
                self.ledger.settle(arrival, Status.FAILED)
                self.tally.refuse(name)
        if all_known and not self._scanned:
            self._scanned = True
            self.screening.report_outdated()
            self._report_found()
        self._event.set()

    def _take_found(self, found: Sequence[Found]) -> None:
        for each in found:
            name, judgement = each.arrival.name, each.judgement
            self._found[judgement.status] += 1
            self.ledger.settle(each.arrival, judgement.status)
            self.tally.judge(name, judgement.done, judgement.failed)
        unrecorded = [each.arrival for each in found if each.is_unrecorded]
        if unrecorded:
            self._record(FilesFound, unrecorded)

    def _record(
        self, event: type[FilesFound | FilesStaged], arrivals: list[Arrival]
    ) -> None:
        """Note of which content the results of files are, or will be."""
        self.parts.journal.append(
            event(
                files=[each.name for each in arrivals],
                signatures=[each.signature[1:] for each in arrivals],
            )
        )
        self.screening.record(arrivals)

    @staticmethod
    def _report_gone(names: list[str]) -> None:
        """Report failed files that are forgotten because the user removed them."""
        if names:
            some = ", ".join(map(printable, names[:NAMED_AT_MOST]))
            more = ", …" if len(names) > NAMED_AT_MOST else ""
            inputs = "input is" if len(names) == 1 else "inputs are"
            logger.warning(
                "Forgot {} failed {} whose {} gone: {}{}",
                len(names),
                files_word(len(names)),
                inputs,
                some,
                more,
            )

    @staticmethod
    def _report_unmatched(sentence: str | None) -> None:
        if sentence is not None:
            logger.warning("{}", sentence)

    def _report_found(self) -> None:
        """Tell what earlier runs have left, if nothing else will be told of it."""
        failed, done = self._found[Status.FAILED], self._found[Status.DONE]
        if failed:
            where = shlex.quote(printable(str(self.parts.run_dir)))
            hint = f"see `tigerflow report {where}`, or `tigerflow retry {where}`"
            logger.warning("{} {} failed before; {}", failed, files_word(failed), hint)
        elif done and self.ledger.counts() == Counts(done=done):
            is_are = "is" if done == 1 else "are"
            logger.info("Nothing to do: {} {} {} done", done, files_word(done), is_are)

    # From waiting to a window

    def _stage(self) -> None:
        waiting = list(self.ledger.waiting.values())
        if not waiting:
            return
        chosen = self.parts.select(waiting, self.ledger.counts())
        if not chosen:
            return
        counts: Counter[str] = Counter()
        for arrival in chosen:
            del self.ledger.waiting[arrival.name]
            stem = stem_of(arrival.name, self.parts.plan.input_ext)
            proven = self.screening.is_proven(arrival)
            left = self.tally.left_of(arrival.name)
            counts[_staged_as(left, is_known=proven)] += 1
            self._places += 1
            staged = StagedFile(arrival, stem, self._places, proven=proven)
            self.ledger.staged[arrival.name] = staged
            self._ready.append(staged)
        self._record(FilesStaged, list(chosen))
        for sentence, count in counts.items():
            logger.info(sentence, count=count, files=files_word(count))

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
                self._ready.extendleft(reversed(files))
                self._trials.note_failure(error)
                return
            window = _Window(process, files)
            self._running.add(window)
            loop = asyncio.get_running_loop()
            loop.add_reader(process.sentinel, self._ended, window)

    def _may_start(self) -> bool:
        planning = self.parts.windows.planning
        return (
            self._trials.is_open
            and planning < BUSY_WINDOWS
            and len(self._running) < MOST_WINDOWS
        )

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
        if self.options.rerun_changed and self._results.has_input(file.arrival.name):
            # Only now: were it not for a window, its results would be missed for long.
            self._results.discard(file.stem, self.screening.take_outdated(file.stem))
        found = self._results.judge(file.arrival)
        if self.screening.is_retried(found):
            found = self._results.judge_without_errors(file.arrival)
        self.tally.judge(file.arrival.name, found.done, found.failed)
        if found.status is not Status.UNDONE:
            self._settle(file, found.status)
            return Reach({}, None)
        return found.within_reach(crowded)

    # What became of a window

    def _ended(self, window: _Window) -> None:
        asyncio.get_running_loop().remove_reader(window.process.sentinel)
        code = self.parts.windows.end(window.process)
        self._running.discard(window)
        self._last_busy = asyncio.get_running_loop().time()
        if code == WindowExit.SHORTAGE:
            # Its files are not to blame.
            self._blocked |= {file.stem for file in window.files}
            self._trials.doubt()
        if code != WindowExit.DONE and not self.storage.probe():
            # Snakemake itself could not write, perhaps.
            self._blocked |= {file.stem for file in window.files}
        results = self._results
        gone = {
            file.stem
            for file in window.files
            if not results.has_input(file.arrival.name)
        }
        done = 0
        failed: list[str] = []
        is_broken = code not in _UNDERSTOOD
        for file in window.files:
            file.proven = True
            status = self._judge(file, gone, is_broken=is_broken)
            done += status is Status.DONE
            if status is Status.FAILED:
                failed.append(file.arrival.name)
            self._blocked.discard(file.stem)
        if done:
            self.storage.recover()
            logger.info("Completed processing {} {}", done, files_word(done))
        if failed:
            self._report_failed(failed)
        if self._doubtful:
            self._trials.doubt()
        self._event.set()

    def _report_failed(self, names: list[str]) -> None:
        """Say where to read why files failed: of one alone, its whole story."""
        words = [self.parts.run_dir, *(names if len(names) == 1 else ())]
        command = " ".join(shlex.quote(printable(str(word))) for word in words)
        hint = f"`tigerflow report {command}` shows why"
        logger.error("{} failed {}; {}", len(names), files_word(len(names)), hint)

    def _trial_ended(self, went_well: bool) -> None:  # noqa: FBT001 -- a callback
        """Blame the files of windows that broke, if Snakemake can run without them."""
        if went_well:
            doubtful, self._doubtful = self._doubtful, []
            for file in doubtful:
                self._try_again(file, self._results.judge(file.arrival))
        self._event.set()

    def _judge(
        self, file: StagedFile, gone: Collection[str], *, is_broken: bool
    ) -> Status:
        results = self._results
        found = results.judge(file.arrival)
        if file.stem in gone and results.has_only_missed_input(file, found):
            # When it comes back, it is a file like any other.
            results.discard_errors(file, found)
            found = results.judge(file.arrival)
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
        elif found.made.issuperset(file.asked):
            # What is left of it was not asked for.
            self._ready.append(file)
        elif is_broken:
            self._doubtful.append(file)
        else:
            self._try_again(file, found)
        return found.status

    def _waits_for_stuck(self, found: Judgement) -> bool:
        stuck = self.parts.workers.stuck
        return bool(found.undone) and all(
            stuck.keys() & self.parts.plan.lineage(task) for task in found.undone
        )

    def _try_again(self, file: StagedFile, found: Judgement) -> None:
        file.attempts += 1
        if file.attempts < ATTEMPTS:
            self._ready.append(file)
            return
        message = (
            f"neither a result nor an error after {ATTEMPTS} tries; "
            "see .tigerflow/logs/snakemake.log"
        )
        task = self._results.fail(file, found, message)
        self.tally.note(file.arrival.name, task, succeeded=False)
        self._settle(file, Status.FAILED)

    def _settle(self, file: StagedFile, status: Status) -> None:
        name = file.arrival.name
        _, size, mtime_ns = file.arrival.signature
        event = FileDone if status is Status.DONE else FileFailed
        self.parts.journal.append(event(file=name, size=size, mtime_ns=mtime_ns))
        self.ledger.settle(file.arrival, status)
        if status is Status.DONE and self.options.delete_input and file.proven:
            self._delete_input(file)

    def _delete_input(self, file: StagedFile) -> None:
        arrival = file.arrival
        try:
            # A power cut must not leave a file with neither input nor results.
            self._results.sync(file.stem)
            # What was written meanwhile has not been processed.
            self._removal.remove(arrival.name, arrival.signature)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("Cannot remove {}: {}", printable(arrival.name), error)


def _staged_as(left: tuple[str, ...] | None, *, is_known: bool) -> str:
    """Return what to log of files that are staged; `left` are tasks with work to do."""
    if left is None:
        again = "Staged {count} {files} again"
        return again if is_known else "Staged {count} new {files}"
    if not left:
        return "Staged {count} {files} whose results are there"
    has = "has" if len(left) == 1 else "have"
    return f"Staged {{count}} {{files}}; only {', '.join(left)} {has} work to do"
