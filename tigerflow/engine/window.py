"""Run one window, some files' targets, through Snakemake in a forked child.

Snakemake's imports take a second, so a fork server does them once; a child of it runs
one window and ends, so that nothing leaks from one to the next.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from enum import IntEnum
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path


class WindowExit(IntEnum):
    """How a window's child ends."""

    DONE = 0
    #: Some jobs failed; the others are done.
    JOBS_FAILED = 1
    #: Nothing was run: an input is gone.
    INPUT_MISSING = 3
    #: Nothing can be said; the log knows more.
    BROKEN = 4


class WindowRunner:
    """Starts windows of one workflow."""

    def __init__(
        self,
        snakefile: Path,
        run_dir: Path,
        limits: Sequence[str],
        log: Path,
    ) -> None:
        """Run targets of `snakefile` in `run_dir`; what Snakemake says goes to `log`.

        `limits` are the names of the rules' resources that bound files in flight.
        """
        self._arguments = (snakefile, run_dir, tuple(limits), log)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tigerflow.engine.preload"])

    def warm_up(self) -> None:
        """Start the fork server, which imports Snakemake while other things happen."""
        forkserver.ensure_running()

    def close(self) -> None:
        """End the fork server."""
        # No public way: it ends by itself with this process, but others wait for that.
        forkserver._forkserver._stop()  # type: ignore[attr-defined] # noqa: SLF001

    def start(self, targets: Sequence[str], *, keep_metadata: bool) -> BaseProcess:
        """Start a window; its `sentinel` is ready and its `exitcode` set at the end."""
        process = self._context.Process(
            target=_run,
            args=(*self._arguments, tuple(targets), keep_metadata),
            name="window",
        )
        process.start()
        return process


def _run(
    snakefile: Path,
    run_dir: Path,
    limits: tuple[str, ...],
    log: Path,
    targets: tuple[str, ...],
    keep_metadata: bool,  # noqa: FBT001 -- passed through a process boundary
) -> None:
    # Ctrl-C is for the service: it decides what becomes of the window.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from tigerflow.engine.snakemake import run_targets  # noqa: PLC0415 -- takes a second

    code = run_targets(
        snakefile,
        run_dir,
        limits,
        targets,
        keep_metadata=keep_metadata,
    )
    sys.stderr.flush()
    os._exit(code)
