"""The windows of a service: which files go into the next, what became of the last.

A staged file is judged when its window begins, for what is left to be made of it, and
when the window has ended, for what became of it. The file system says so, not the
window. After three windows without a result or an error, a file fails with `NoResult`.
"""

import asyncio
import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from tigerflow.engine.forks import ForkError
from tigerflow.engine.window import WindowExit, WindowRunner
from tigerflow.log import logger
from tigerflow.naming import files_word, printable
from tigerflow.rundir.judgement import Judgement, Reach, Status
from tigerflow.rundir.plan import Plan
from tigerflow.service.admission import Admission
from tigerflow.service.file_results import Results
from tigerflow.service.ledger import Ledger, StagedFile
from tigerflow.service.options import ServiceOptions
from tigerflow.service.removal import InputRemoval
from tigerflow.service.storage import Storage
from tigerflow.service.trials import Trials

#: Files in a window: Snakemake's time per file is flat up to here, and grows beyond.
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


class Workers(Protocol):
    """What a service asks the worker host."""

    @property
    def stuck(self) -> dict[str, str]:
        """The tasks that cannot run, with the reason."""

    @property
    def crowded(self) -> Collection[str]:
        """The tasks that have more files than their workers take at once."""

    def drain(self) -> None:
        """Take no more files, and finish those in progress."""

    def stop(self) -> None:
        """Give up the files in progress."""


@dataclass(eq=False)
class _Window:
    process: BaseProcess
    files: list[StagedFile]


@dataclass
class Windows:
    """The windows of one service. All in the thread of its loop."""

    plan: Plan
    run_dir: Path
    options: ServiceOptions
    ledger: Ledger
    results: Results
    admission: Admission
    storage: Storage
    removal: InputRemoval
    runner: WindowRunner
    workers: Workers
    #: Set when a window or a trial has ended.
    event: asyncio.Event
    #: Set when no more files are wanted.
    is_stopping: bool = False

    def __post_init__(self) -> None:
        """Start nothing yet."""
        self._running: set[_Window] = set()
        #: When the last one ended, by the loop's clock, in seconds.
        self.last_end = 0.0
        self.trials = Trials(self.runner, self.storage.probe, self._trial_ended)

    @property
    def are_running(self) -> bool:
        """Whether any is running."""
        return bool(self._running)

    # What is asked of the next

    def start(self) -> None:
        """Start as many as make sense for the files that are ready."""
        while self._may_start():
            crowded = self._crowded()
            self.ledger.release(crowded, WINDOW_SIZE)
            files, targets = self._fill(crowded)
            if not targets:
                return
            try:
                process = self.runner.start(
                    targets,
                    keep_metadata=self.options.keep_metadata,
                )
            except ForkError as error:
                self.ledger.put_first(files)
                self.trials.note_failure(error)
                return
            window = _Window(process, files)
            self._running.add(window)
            loop = asyncio.get_running_loop()
            loop.add_reader(process.sentinel, self._ended, window)

    def _may_start(self) -> bool:
        return (
            self.trials.is_open
            and self.runner.planning < BUSY_WINDOWS
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
        return self.workers.crowded

    def _fill(self, crowded: Collection[str]) -> tuple[list[StagedFile], list[str]]:
        files: list[StagedFile] = []
        targets: list[str] = []
        # No more than these are judged in one go: the loop has other things to do.
        for _ in range(min(WINDOW_SIZE, self.ledger.ready)):
            file = self.ledger.take_ready()
            reach = self._begin(file, crowded)
            if reach.wanted:
                file.asked = tuple(reach.wanted)
                targets += reach.wanted.values()
                files.append(file)
            elif reach.stopped_at is not None:
                self.ledger.hold(file, reach.stopped_at)
        return files, targets

    def _begin(self, file: StagedFile, crowded: Collection[str]) -> Reach:
        """Return what is to be made of a file now; settle it if it is finished."""
        if self.options.rerun_changed and self.results.has_input(file.arrival.name):
            # Only now: were it not for a window, its results would be missed for long.
            self.results.discard(file.stem, self.admission.take_outdated(file.stem))
        found = self.results.judge(file.arrival)
        if self.admission.is_retried(found):
            found = self.results.judge_without_errors(file.arrival)
        if self._settle(file, found) is not Status.UNDONE:
            return Reach({}, None)
        return found.within_reach(crowded)

    # What became of the last

    def _ended(self, window: _Window) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(window.process.sentinel)
        code = self.runner.end(window.process)
        self._running.discard(window)
        self.last_end = loop.time()
        if code == WindowExit.SHORTAGE:
            self.trials.doubt()
        # Snakemake itself could not write, perhaps.
        is_full = code != WindowExit.DONE and not self.storage.probe()
        gone = {
            file.stem
            for file in window.files
            if not self.results.has_input(file.arrival.name)
        }
        done, failed = 0, []
        for file in window.files:
            # A shortage of the system or the disk is no file's fault.
            file.is_blocked |= is_full or code == WindowExit.SHORTAGE
            file.proven = True
            status = self._conclude(file, gone, is_broken=code not in _UNDERSTOOD)
            file.is_blocked = False
            done += status is Status.DONE
            if status is Status.FAILED:
                failed.append(file.arrival.name)
        self._report(done, failed)
        if self.ledger.is_in_doubt:
            self.trials.doubt()
        self.event.set()

    def _conclude(
        self, file: StagedFile, gone: Collection[str], *, is_broken: bool
    ) -> Status:
        """Settle a file whose window has ended, or say what is next for it."""
        results, ledger = self.results, self.ledger
        found = results.judge(file.arrival)
        if file.stem in gone and results.has_only_missed_input(file, found):
            # When it comes back, it is a file like any other.
            results.discard_errors(file, found)
            found = results.judge(file.arrival)
        status = self._settle(file, found)
        if status is not Status.UNDONE:
            return status
        if file.stem in gone:
            logger.warning("{} is gone", printable(file.arrival.name))
            ledger.lose(file)
        elif self._waits_for_stuck(found):
            ledger.strand(file)
        elif self.is_stopping or gone or file.is_blocked:
            # Not its fault: nobody wants it any more, another's input was gone and
            # so nothing was run, or there was no room.
            ledger.put_back([file])
        elif found.made.issuperset(file.asked):
            # What is left of it was not asked for.
            ledger.put_back([file])
        elif is_broken:
            ledger.doubt(file)
        else:
            self._try_again(file, found)
        return status

    def _report(self, done: int, failed: list[str]) -> None:
        if done:
            self.storage.recover()
            logger.info("Completed processing {} {}", done, files_word(done))
        if failed:
            # Where to read why files failed: of one alone, its whole story.
            words = [self.run_dir, *(failed if len(failed) == 1 else ())]
            command = " ".join(shlex.quote(printable(str(word))) for word in words)
            hint = f"`tigerflow report {command}` shows why"
            logger.error("{} failed {}; {}", len(failed), files_word(len(failed)), hint)

    def _trial_ended(self, went_well: bool) -> None:  # noqa: FBT001 -- a callback
        """Blame the files of windows that broke, if Snakemake can run without them."""
        if went_well:
            for file in self.ledger.take_doubtful():
                found = self.results.judge(file.arrival)
                # A worker may have finished it since.
                if self._settle(file, found) is Status.UNDONE:
                    self._try_again(file, found)
        self.event.set()

    def _waits_for_stuck(self, found: Judgement) -> bool:
        stuck = self.workers.stuck.keys()
        undone = found.undone
        return bool(undone) and all(stuck & self.plan.lineage(task) for task in undone)

    def _try_again(self, file: StagedFile, found: Judgement) -> None:
        file.attempts += 1
        if file.attempts < ATTEMPTS:
            self.ledger.put_back([file])
            return
        message = (
            f"no result and no error after {ATTEMPTS} attempts; "
            "see .tigerflow/logs/snakemake.log"
        )
        self.ledger.fail(file, self.results.fail(file, found, message))

    def _settle(self, file: StagedFile, found: Judgement) -> Status:
        """Count what is made of a file; if that is all, it is done or failed."""
        status = self.ledger.judge(file, found)
        if status is Status.DONE and self.options.delete_input and file.proven:
            self._delete_input(file)
        return status

    def _delete_input(self, file: StagedFile) -> None:
        arrival = file.arrival
        try:
            # A power cut must not leave a file with neither input nor results.
            self.results.sync(file.stem)
            # What was written meanwhile has not been processed.
            self.removal.remove(arrival.name, arrival.signature)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning(
                "Cannot remove input file {}: {}", printable(arrival.name), error
            )
