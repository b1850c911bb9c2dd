"""Start a Snakemake that submits jobs of workers, and pass on what it reports.

A child of the fork server runs Snakemake's command line on `workers.smk`; the Snakemake
profile says which plugin submits, and how. `plugins` finds out what became of a job,
and `workers.dispatch.jobs` and `job_following` decide what follows from it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from tigerflow.engine.forks import (
    ForkError,
    Forks,
    kill,
    until_parent_ends,
    write_to,
)
from tigerflow.rundir.layout import (
    WORKERS_PROFILE,
    WORKERS_SNAKEFILE,
    RunLayout,
    job_end,
    mailboxes,
)
from tigerflow.shortage import in_thread, start_thread
from tigerflow.workers.dispatch.scheduler import JobEvent, SubmitError

#: The text for a Snakemake that ended without a message.
SILENT = "Snakemake ended without reporting on its job"


@dataclass(frozen=True)
class _Order:
    """What is to be submitted."""

    #: The directories of the jobs' mailboxes.
    places: Sequence[str]
    #: The nodes that no job may use.
    avoided: Sequence[str]


class Submitter:
    """Submits jobs of the workers of one workflow."""

    def __init__(
        self,
        workflow_dir: Path,
        run_dir: Path,
        forks: Forks,
        profile: Path | None = None,
    ) -> None:
        """Submit the workers of a workflow, from children of the fork server.

        Args:
            workflow_dir: the compiled workflow.
            run_dir: where Snakemake runs. What it says goes to the log of the jobs
                there, whose directory exists.
            forks: the fork server.
            profile: the Snakemake profile that says how; without it, the one that was
                compiled with the workflow.
        """
        snakefile = workflow_dir / WORKERS_SNAKEFILE
        profile = profile or workflow_dir / WORKERS_PROFILE
        self._arguments = (snakefile, run_dir, profile, RunLayout(run_dir).jobs_log)
        self._forks = forks

    def submit(
        self, task: str, jobs: Sequence[str], avoided: Sequence[str] = ()
    ) -> "SnakemakeSubmission":
        """Submit jobs of a task, by our names of them, to no node in `avoided`.

        Raises:
            SubmitError: no process can be started for now.
        """
        return self.submit_at([mailboxes(task) / job for job in jobs], avoided)

    def submit_at(
        self, places: Sequence[Path], avoided: Sequence[str] = ()
    ) -> "SnakemakeSubmission":
        """Submit jobs, perhaps of several tasks, by the directories of their mailboxes.

        Raises:
            SubmitError: no process can be started for now.
        """
        ours, theirs = Pipe()
        order = _Order([str(place) for place in places], avoided)
        arguments = (*self._arguments, order, theirs)
        with theirs:
            try:
                process = self._forks.start(_submit, arguments, "submission")
            except ForkError as error:
                ours.close()
                raise SubmitError(str(error)) from error
        return SnakemakeSubmission(process, ours)


class SnakemakeSubmission:
    """A Snakemake that submits jobs and follows them; see `Submission`."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        """Talk through `connection`, whose other end `process` has."""
        self._process = process
        self._connection = connection
        self._queue: asyncio.Queue[JobEvent | None] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._read)

    async def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the jobs, until all have ended; last is `ended`."""
        text = SILENT
        while (event := await self._queue.get()) is not None:
            if event.kind == "ended":
                # It says why it will end.
                text = event.text
            else:
                yield event
        await in_thread(self._process.join)
        code = self._process.exitcode or 0
        yield JobEvent("", "ended", text, is_killed=code < 0)

    def cancel(self, jobs: Sequence[str] = ()) -> None:
        """Cancel these jobs, or all, unless they have ended."""
        if not jobs and self._process.pid is not None:
            # Snakemake cancels its jobs at SIGINT; at SIGTERM it would wait for them.
            kill(self._process.pid, signal.SIGINT)
        for job in jobs:
            self._say("cancel", job)

    def end(self, job: str, state: str) -> None:
        """Note that a job has ended, in a state of Slurm's, unless that is known."""
        self._say("end", job, state)

    def _say(self, *words: str) -> None:
        # It may have ended.
        with contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(words).encode())

    def kill(self) -> None:
        """End it at once; its jobs stay."""
        if self._process.pid is not None:
            kill(self._process.pid)

    def _read(self) -> None:
        try:
            while self._connection.poll():
                self._queue.put_nowait(
                    JobEvent(**json.loads(self._connection.recv_bytes()))
                )
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
            self._queue.put_nowait(None)


def _submit(
    snakefile: Path,
    run_dir: Path,
    profile: Path,
    log: Path,
    order: "_Order",
    connection: Connection,
) -> None:
    # Ctrl-C at a terminal is for the service, which decides about the jobs.
    os.setsid()
    signal.signal(signal.SIGINT, _interrupt_once)
    start_thread(threading.Thread(target=_cancel_after_service, daemon=True))
    write_to(log)
    os.chdir(run_dir)
    main = _prepare_snakemake(run_dir, connection, order)

    targets = [str(job_end(place)) for place in order.places]
    words = ["--snakefile", str(snakefile), "--directory", str(run_dir)]
    # Ignore the profile that Snakemake would find beside the workflow.
    words += ["--profile", str(profile), "--workflow-profile", "none"]
    # The pool replaces a lost worker: it knows whether files wait.
    words += ["--retries", "0", "--nolock", *targets]
    try:
        main(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _prepare_snakemake(
    run_dir: Path, connection: Connection, order: "_Order"
) -> Callable[[list[str]], None]:
    """Return Snakemake's command line, which will report what happens to its jobs."""
    from tigerflow.engine import preload  # noqa: PLC0415 -- takes a second

    try:
        preload.check()
    except Exception as error:
        event = JobEvent("", "ended", f"Snakemake cannot run: {error!r}")
        connection.send_bytes(json.dumps(asdict(event)).encode())
        raise
    from snakemake.cli import main  # noqa: PLC0415 -- the same

    from tigerflow.engine.home import make_up_for_home  # noqa: PLC0415
    from tigerflow.engine.plugins import (  # noqa: PLC0415
        set_environment,
        tell_of_jobs,
    )

    make_up_for_home(run_dir)
    tell_of_jobs(connection, order.avoided)
    set_environment()
    return main  # type: ignore[no-any-return] # Snakemake has no types for it


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Have Snakemake cancel its jobs; ignore further signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _cancel_after_service() -> None:
    until_parent_ends()
    kill(os.getpid(), signal.SIGINT)
