"""Run one window, some files' targets, through Snakemake in a forked child."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from enum import IntEnum
from multiprocessing.process import BaseProcess
from pathlib import Path

from tigerflow.engine.forks import Forks, kill, until_parent_ends, write_to
from tigerflow.files import discard
from tigerflow.naming import printable
from tigerflow.shortage import is_shortage, start_thread
from tigerflow.workers.dispatch.link import log_tail

#: Where Snakemake marks outputs that are being made.
_INCOMPLETE = Path(".snakemake") / "incomplete"

#: Characters of a window's last line that are shown.
LAST_WORDS = 300

#: Marks what a trial notes of Snakemake itself.
NOTE = "tigerflow: "

#: What multiprocessing says when the fork server died, and its children live on.
_UNKNOWN_EXIT = 255


class WindowExit(IntEnum):
    """How a window's child ends."""

    DONE = 0
    #: Some jobs failed; the others are done.
    JOBS_FAILED = 1
    #: Nothing was run: an input is gone.
    INPUT_MISSING = 3
    #: Nothing can be said; the log knows more.
    BROKEN = 4
    #: The system was short of threads or the like; the log knows more.
    SHORTAGE = 5


def exit_of(error: BaseException) -> WindowExit:
    """Return how a window ends that an unexpected error ends."""
    return WindowExit.SHORTAGE if is_shortage(error) else WindowExit.BROKEN


class WindowRunner:
    """Starts windows of one workflow."""

    def __init__(
        self,
        snakefile: Path,
        run_dir: Path,
        limits: Sequence[str],
        log: Path,
        forks: Forks,
    ) -> None:
        """Run targets of `snakefile` in `run_dir`; what Snakemake says goes to `log`.

        `limits` are the names of the rules' resources that bound files in flight.
        """
        self._arguments = (snakefile, run_dir, tuple(limits))
        self._run_dir = run_dir
        self._forks = forks
        self._log = log
        # Its own: the last line must not be that of another window.
        self._trial_log = log.with_name(f"{log.stem}-trial.log")
        self._running: dict[int, BaseProcess] = {}
        self._planning: set[int] = set()
        #: In the order of their starts: windows that have not had their turn.
        self._turns: dict[int, asyncio.Event] = {}

    def clean(self) -> None:
        """Remove what a killed service left; no window may run.

        Outputs appear whole, so one that is there is complete, whatever Snakemake
        remembers of the job that made it.
        """
        discard(self._run_dir / _INCOMPLETE)
        # Where it is missing, each Snakemake takes the metadata for those of an old
        # version, and two that convert them at once trip over each other.
        with contextlib.suppress(OSError):
            (self._run_dir / _INCOMPLETE).mkdir(parents=True)

    def start(self, targets: Sequence[str], *, keep_metadata: bool) -> BaseProcess:
        """Start a window; its `sentinel` is ready at its end.

        Raises:
            ForkError: none can be started just now.
        """
        process = self._start(self._log, targets, keep_metadata=keep_metadata)
        assert process.pid is not None  # noqa: S101 -- it is started
        self._planning.add(process.pid)
        self._turns[process.pid] = asyncio.Event()
        return process

    def start_trial(self) -> BaseProcess:
        """Start a window that has nothing to do: it goes well if Snakemake can run.

        Raises:
            ForkError: none can be started just now.
        """
        self.forget_trial()
        return self._start(self._trial_log, (), keep_metadata=False)

    def forget_trial(self) -> None:
        """Remove what the last trial has said."""
        with contextlib.suppress(OSError):
            self._trial_log.unlink(missing_ok=True)

    def _start(
        self, log: Path, targets: Sequence[str], *, keep_metadata: bool
    ) -> BaseProcess:
        arguments = (*self._arguments, log, tuple(targets), keep_metadata)
        process = self._forks.start(_run, arguments, "window")
        assert process.pid is not None  # noqa: S101 -- it is started
        self._running[process.pid] = process
        return process

    def notes(self) -> list[str]:
        """Return what the last trial has noted of this Snakemake."""
        lines = log_tail(self._trial_log, 0).splitlines()
        return [line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)]

    def last_words(self) -> str:
        """Return the last line that the last trial has written."""
        lines = log_tail(self._trial_log, 0).splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return printable(last[:LAST_WORDS]) or "it has ended without a word"

    def end(self, process: BaseProcess) -> int:
        """Take leave of a window whose sentinel is ready; return its exit code."""
        process.join()
        code, pid = process.exitcode, process.pid
        process.close()
        assert code is not None  # noqa: S101 -- it has ended
        assert pid is not None  # noqa: S101 -- it was started
        del self._running[pid]
        self._planning.discard(pid)
        self._pass_turn(pid)
        if code == _UNKNOWN_EXIT:
            kill(pid)
        return code

    def admit(self, pid: int) -> bool:
        """Let a window hand over its jobs; False for a process that is none of ours."""
        self._planning.discard(pid)
        return pid in self._running

    async def turn(self, pid: int) -> None:
        """Wait until windows that were started before hand over their jobs.

        So that files are begun in the order in which they were staged.
        """
        earlier = itertools.takewhile(lambda other: other != pid, self._turns)
        for event in [self._turns[other] for other in earlier]:
            await event.wait()
        self._pass_turn(pid)

    def _pass_turn(self, pid: int) -> None:
        if event := self._turns.pop(pid, None):
            event.set()

    @property
    def planning(self) -> int:
        """How many windows have not handed over a job yet: they take a core each."""
        return len(self._planning)

    def kill(self) -> list[int]:
        """Kill all windows; return their process ids."""
        pids = list(self._running)
        for pid in pids:
            kill(pid)
        return pids


def _run(
    snakefile: Path,
    run_dir: Path,
    limits: tuple[str, ...],
    log: Path,
    targets: tuple[str, ...],
    keep_metadata: bool,  # noqa: FBT001
) -> None:
    # Ctrl-C is for the service: it decides what becomes of the window.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_thread(threading.Thread(target=_die_with_service, daemon=True))
    write_to(log)
    try:
        from tigerflow.engine import preload  # noqa: PLC0415 -- takes a second

        preload.check()
        if not targets:
            # A trial; the others would only repeat it.
            for sentence in preload.missing:
                print(f"{NOTE}{sentence}", flush=True)  # noqa: T201 -- to the log
        from tigerflow.engine.snakemake import run_targets  # noqa: PLC0415 -- the same

        code = run_targets(
            snakefile,
            run_dir,
            limits,
            targets,
            keep_metadata=keep_metadata,
        )
    except BaseException as error:  # noqa: BLE001 -- whatever it is, the log says it
        traceback.print_exc()
        code = exit_of(error)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _die_with_service() -> None:
    until_parent_ends()
    kill(os.getpid())
