"""`tigerflow run` and `watch`: the parts joined, from start to teardown."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from tigerflow import __version__
from tigerflow.compiler.directory import Workflow, write_workflow
from tigerflow.compiler.rules import limit_name
from tigerflow.engine.window import WindowRunner
from tigerflow.errors import ExitCode, RunningError, StagingError
from tigerflow.inbox import Arrival, Inbox
from tigerflow.journal import Journal
from tigerflow.layout import STATE
from tigerflow.lock import BEAT_S, RunLock
from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.pipeline.spec import Pipeline
from tigerflow.runner import Counts, Runner, RunnerOptions, RunnerParts
from tigerflow.settings import Settings
from tigerflow.staging import Staging, StagingContext
from tigerflow.targets import Targets
from tigerflow.tasks.execution import FileJob
from tigerflow.workers import client
from tigerflow.workers.host import Host, only_generation
from tigerflow.workers.protocol import Answer, Fate, WorkerTask

#: How often the service looks for a stop request and shows that it lives.
LOOK_S = 1.0


@dataclass(frozen=True)
class Service:
    """A compiled pipeline, to be served."""

    pipeline: Pipeline
    workflow: Workflow
    options: RunnerOptions
    settings: Settings

    def run(self, on_ready: Callable[["Controls"], None]) -> int:
        """Serve until it is over; return the exit code.

        `on_ready` gets what a signal handler needs.

        Raises:
            RunningError: another service or Snakemake is at work in the directory.
        """
        write_workflow(self.workflow)
        # Clients, workers and Snakemake all have the run directory as their own.
        os.chdir(self.workflow.output_dir)
        STATE.joinpath("logs").mkdir(parents=True, exist_ok=True)
        with RunLock(STATE) as lock, Journal(STATE / "journal.jsonl") as journal:
            listener = client.claim()
            if listener is None:
                message = (
                    "Snakemake is at work in the output directory; wait for its end"
                )
                raise RunningError(message)
            with listener, only_generation(listener):
                return asyncio.run(self._serve(listener, lock, journal, on_ready))

    async def _serve(
        self,
        listener: socket.socket,
        lock: RunLock,
        journal: Journal,
        on_ready: Callable[["Controls"], None],
    ) -> int:
        windows = self._windows()
        windows.warm_up()
        host = Host(listener, self.settings, _Recorder(journal).answered)
        runner = Runner(self._parts(host, windows, journal), self.options)
        controls = Controls(asyncio.get_running_loop(), runner, host)
        on_ready(controls)
        self._record_start(journal)
        serving = asyncio.create_task(host.serve())
        looking = asyncio.create_task(_look_after(lock, controls))
        inbox = Inbox(
            self.workflow.input_dir,
            self.pipeline.input_ext,
            runner.wanted,
            self.settings.task_poll_interval,
        )
        try:
            with inbox:
                await runner.run(inbox)
        finally:
            looking.cancel()
            logger.info("Shutting down pipeline")
            host.stop()
            await serving
            journal.append("run_stopped", reason="stopped")
            windows.close()
        logger.info("Pipeline shutdown complete")
        return self._exit_code(runner, host)

    def _windows(self) -> WindowRunner:
        limits = [limit_name(rule.name) for rule in self.workflow.rules]
        run_dir = self.workflow.output_dir
        log = STATE / "logs" / "snakemake.log"
        return WindowRunner(self.workflow.snakefile, run_dir, limits, run_dir / log)

    def _parts(
        self, host: Host, windows: WindowRunner, journal: Journal
    ) -> RunnerParts:
        return RunnerParts(
            targets=Targets(self.pipeline),
            run_dir=self.workflow.output_dir,
            input_dir=self.workflow.input_dir,
            windows=windows,
            workers=host,
            journal=journal,
            select=_Selector(self.pipeline.staging, self.workflow).select,
        )

    def _record_start(self, journal: Journal) -> None:
        parents = {task.name: task.spec.depends_on for task in self.pipeline.tasks}
        journal.append(
            "run_started",
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            tasks=parents,
        )
        logger.info("Starting pipeline execution")

    @staticmethod
    def _exit_code(runner: Runner, host: Host) -> int:
        for task, reason in host.stuck.items():
            logger.error("[{}] stopped: {}", task, reason)
        failed = runner.ledger.failed or runner.stuck or host.stuck
        return ExitCode.FAILED if failed else ExitCode.DONE


@dataclass(frozen=True)
class Controls:
    """What may be asked of a running service, from any thread."""

    loop: asyncio.AbstractEventLoop
    runner: Runner
    host: Host

    def stop(self) -> None:
        """Finish what is in hand, then end."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.runner.stop)


class _Recorder:
    """Writes what became of each task's file to the journal and the log."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def answered(self, told: WorkerTask, job: FileJob, answer: Answer) -> None:
        if answer.fate is Fate.UNDONE:
            return
        self._journal.append(
            f"task_{answer.fate.value}",
            task=told.name,
            file=job.output.name.removesuffix(told.output_ext),
            started=answer.started,
            seconds=answer.seconds,
        )
        if answer.fate is Fate.FAILED:
            logger.error("[{}] {}", told.name, printable(answer.message))


class _Selector:
    """The staging steps, applied to arrivals."""

    def __init__(self, staging: Staging, workflow: Workflow) -> None:
        self._staging = staging
        self._workflow = workflow
        self._last_problem = ""

    def select(self, waiting: list[Arrival], counts: Counts) -> list[Arrival]:
        if not self._staging.steps:
            return waiting
        directory = self._workflow.input_dir
        by_path = {directory / arrival.name: arrival for arrival in waiting}
        context = StagingContext(
            waiting=counts.waiting,
            staged=counts.staged,
            completed=counts.done,
            failed=counts.failed,
            input_dir=directory,
            output_dir=self._workflow.output_dir,
        )
        try:
            chosen = self._staging.select(sorted(by_path), context)
        except StagingError as error:
            if str(error) != self._last_problem:
                logger.warning("{}", error)
            self._last_problem = str(error)
            return []
        self._last_problem = ""
        return [by_path[path] for path in chosen]


async def _look_after(lock: RunLock, controls: Controls) -> None:
    """Obey a stop request, also from another host, and show that the service lives."""
    request = STATE / "stop"
    request.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    next_beat = loop.time()
    while True:
        await asyncio.sleep(LOOK_S)
        if request.exists():
            request.unlink(missing_ok=True)
            logger.warning("Received a stop request, initiating shutdown")
            controls.runner.stop()
        if loop.time() >= next_beat:
            next_beat += BEAT_S
            lock.beat()
