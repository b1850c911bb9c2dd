"""`tigerflow run` and `watch`: the parts joined, from start to teardown."""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tigerflow.compiler.compiled import Workflow
from tigerflow.compiler.rules import limit_name
from tigerflow.compiler.workflow_directory import protect, write_workflow
from tigerflow.engine.forks import Forks
from tigerflow.engine.internals import check_snakemake
from tigerflow.engine.submission import Submitter
from tigerflow.engine.window import WindowRunner
from tigerflow.errors import (
    ExitCode,
    OutputDirectoryError,
    RunningError,
)
from tigerflow.faults import begin, end_on_faults
from tigerflow.files import open_as_private
from tigerflow.log import log_file, logger
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.history import History, read_history
from tigerflow.rundir.journal import Journal, read
from tigerflow.rundir.layout import (
    JOURNAL,
    RUN_LOG,
    SNAKEMAKE_LOG,
    STATE,
)
from tigerflow.rundir.live import LiveFile
from tigerflow.rundir.lock import LOOK_S, RunLock
from tigerflow.rundir.signatures import Signature, signature_of
from tigerflow.service.controls import Controls
from tigerflow.service.inbox import Inbox
from tigerflow.service.ledger import Ledger
from tigerflow.service.loop import Loop, LoopParts
from tigerflow.service.options import ServiceOptions
from tigerflow.service.recorder import Recorder
from tigerflow.service.selection import Selection
from tigerflow.service.storage import Storage
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.workers import client
from tigerflow.workers.dispatch.address import only_generation
from tigerflow.workers.dispatch.host import Host, ServiceHooks


@dataclass(frozen=True)
class Service:
    """A compiled pipeline, to be served."""

    pipeline: Pipeline
    workflow: Workflow
    options: ServiceOptions
    settings: Settings
    #: How workers of Slurm tasks are submitted; None: as the workflow's profile says.
    workers_profile: Path | None = None

    def run(self, on_ready: Callable[["Controls"], None]) -> int:
        """Serve until it is over; return the exit code.

        `on_ready` gets what a signal handler needs.

        Raises:
            UnsupportedSnakemakeError: Snakemake is too old or too new.
            RunningError: another service or Snakemake is at work in the directory.
        """
        check_snakemake()
        self.pipeline.staging.load(self.pipeline.path.resolve().parent)
        run_dir = self.workflow.output_dir
        try:
            protect(self.workflow)
            # Clients and Snakemake have the run directory as their own.
            os.chdir(run_dir)
            SNAKEMAKE_LOG.parent.mkdir(exist_ok=True)
            for path in (RUN_LOG, JOURNAL, SNAKEMAKE_LOG):
                os.close(open_as_private(str(path), os.O_WRONLY | os.O_CREAT))
            with (
                RunLock(STATE) as lock,
                log_file(RUN_LOG),
                Journal(STATE / "journal.jsonl") as journal,
            ):
                return self._run_alone(lock, journal, on_ready)
        except OSError as error:
            raise OutputDirectoryError(run_dir, error) from error

    def _run_alone(
        self,
        lock: RunLock,
        journal: Journal,
        on_ready: Callable[["Controls"], None],
    ) -> int:
        try:
            listener = client.claim()
        except client.HostError as error:
            raise RunningError(str(error)) from error
        if listener is None:
            message = "Snakemake is running in the output directory; wait until it ends"
            raise RunningError(message)
        with listener, only_generation(listener):
            for warning in self.pipeline.warnings:
                logger.warning("{}", warning)
            # Not earlier: these files belong to the process that is at work.
            write_workflow(self.workflow)
            scratch = Path(f"{listener.getsockname()}.forks")
            with Forks(scratch) as forks:
                serving = self._serve(listener, forks, lock, journal, on_ready)
                return asyncio.run(serving)

    async def _serve(
        self,
        listener: socket.socket,
        forks: Forks,
        lock: RunLock,
        journal: Journal,
        on_ready: Callable[["Controls"], None],
    ) -> int:
        windows = self._windows(forks)
        windows.clean()
        workflow = self.workflow
        ledger = Ledger(workflow.plan, journal)
        storage = Storage(workflow.output_dir, workflow.input_dir, journal)
        recorder = Recorder(journal, ledger, storage)
        hooks = ServiceHooks(
            recorder.answered,
            recorder.worker_changed,
            windows.admit,
            windows.turn,
            ledger.place,
        )
        host = Host(listener, self.settings, hooks, self._submitter(forks).submit)
        loop = Loop(self._parts(ledger, storage, windows, host), self.options)
        events = end_on_faults(loop.fail)
        on_ready(Controls(events, loop, host, windows, forks, lock))
        recorder.started(self.pipeline)
        serving = begin(host.serve())
        looking = [
            begin(lock.look_after(loop.retry)),
            begin(_look_around(self.pipeline.path, host, recorder)),
            begin(_show_running(host)),
        ]
        try:
            with self._inbox(loop) as inbox:
                await loop.run(inbox)
        finally:
            logger.info("Shutting down pipeline")
            host.stop()
            try:
                await serving
            finally:
                # Not before: till then, other hosts see that it lives, and are heard.
                for look in looking:
                    look.cancel()
                windows.kill()
                recorder.see_stopped(host.stuck)
                recorder.ended(loop.end)
        logger.info("Pipeline shutdown complete")
        return self._exit_code(loop, host)

    def _inbox(self, loop: Loop) -> Inbox:
        return Inbox(
            self.workflow.input_dir,
            self.pipeline.input_ext,
            loop.admission.wanted,
            self.settings.pipeline_poll_interval,
            on_trouble=loop.arrivals.see_trouble,
        )

    def _windows(self, forks: Forks) -> WindowRunner:
        limits = [limit_name(rule.name) for rule in self.workflow.rules]
        run_dir = self.workflow.output_dir
        log = run_dir / SNAKEMAKE_LOG
        return WindowRunner(self.workflow.snakefile, run_dir, limits, log, forks)

    def _submitter(self, forks: Forks) -> Submitter:
        workflow = self.workflow
        return Submitter(
            *(workflow.directory, workflow.output_dir, forks, self.workers_profile)
        )

    def _parts(
        self, ledger: Ledger, storage: Storage, windows: WindowRunner, host: Host
    ) -> LoopParts:
        inputs, out = self.workflow.input_dir, self.workflow.output_dir
        return LoopParts(
            plan=self.workflow.plan,
            run_dir=out,
            input_dir=inputs,
            windows=windows,
            workers=host,
            ledger=ledger,
            storage=storage,
            read_history=self._read_history,
            grace_s=self.settings.worker_grace,
            select=Selection(self.pipeline.staging, inputs, out).select,
        )

    def _read_history(self) -> History:
        versions = {task.name: task.version for task in self.pipeline.tasks}
        return read_history(read(self.workflow.output_dir / JOURNAL), versions)

    @staticmethod
    def _exit_code(loop: Loop, host: Host) -> int:
        ledger = loop.ledger
        is_left = ledger.staged and not loop.is_stopping
        failed = ledger.failed or ledger.stuck or host.stuck or is_left
        return ExitCode.FAILED if failed else ExitCode.DONE


async def _show_running(host: Host) -> None:
    """Keep a file that says what is running, until cancelled."""
    live = LiveFile()
    try:
        while True:
            running = {name: load.running for name, load in host.loads.items()}
            # The file server may take long.
            await in_thread(live.show, running)
            await asyncio.sleep(LOOK_S)
    finally:
        live.close()


async def _look_around(pipeline: Path, host: Host, recorder: Recorder) -> None:
    """Report tasks that cannot run, and a changed pipeline file."""
    seen = _state_of(pipeline)
    while True:
        await asyncio.sleep(LOOK_S)
        recorder.see_stopped(host.stuck)
        if (state := _state_of(pipeline)) != seen and state is not None:
            seen = state
            logger.warning("{} has changed; restart the service to use it", pipeline)


def _state_of(path: Path) -> Signature | None:
    """Return what changes when a file is written; None while there is no such file."""
    try:
        return signature_of(path.stat())
    except OSError:
        # An editor replaces it, perhaps.
        return None
