"""`tigerflow run` and `watch`: the parts joined, from start to teardown."""

import asyncio
import contextlib
import os
import platform
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tigerflow import __version__
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
    StagingError,
)
from tigerflow.faults import begin, end_on_faults
from tigerflow.files import open_as_private, remove_temporaries_of
from tigerflow.log import log_file, logger
from tigerflow.naming import printable
from tigerflow.pipeline.spec import Pipeline
from tigerflow.pipeline.staging import Staging, StagingContext
from tigerflow.rundir.events import (
    FORMAT,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskFailed,
    TaskStopped,
    WorkerChanged,
    WorkerState,
)
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
from tigerflow.service.inbox import Arrival, Inbox
from tigerflow.service.ledger import Counts
from tigerflow.service.loop import Runner, RunnerParts
from tigerflow.service.options import RunnerOptions
from tigerflow.service.signals import hold
from tigerflow.service.snapshot import Snapshot, take_snapshot
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.children import TaskCall
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers import client
from tigerflow.workers.dispatch.address import only_generation
from tigerflow.workers.dispatch.host import Host, ServiceHooks
from tigerflow.workers.protocol import Answer, Fate

#: How long processes that were killed are waited for; the kernel takes no time for it.
KILLED_S = 5.0


@dataclass(frozen=True)
class Service:
    """A compiled pipeline, to be served."""

    pipeline: Pipeline
    workflow: Workflow
    options: RunnerOptions
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
            message = "Snakemake is at work in the output directory; wait for its end"
            raise RunningError(message)
        with listener, only_generation(listener):
            for warning in self.pipeline.warnings:
                logger.warning("{}", warning)
            # Not before: what is there belongs to whoever is at work.
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
        recorder = _Recorder(journal)
        hooks = ServiceHooks(
            recorder.answered,
            recorder.worker_changed,
            windows.admit,
            windows.turn,
            recorder.place,
        )
        host = Host(listener, self.settings, hooks, self._submitter(forks).submit)
        runner = Runner(self._parts(host, windows, journal), self.options)
        recorder.serve(runner)
        loop = end_on_faults(runner.fail)
        on_ready(Controls(loop, runner, host, windows, forks, lock))
        self._record_start(journal)
        serving = begin(host.serve())
        stopped = _StoppedTasks(host, journal)
        looking = [
            begin(lock.look_after(runner.retry)),
            begin(_look_around(self.pipeline.path, stopped)),
            begin(_show_running(host)),
        ]
        inbox = Inbox(
            self.workflow.input_dir,
            self.pipeline.input_ext,
            runner.screening.wanted,
            self.settings.pipeline_poll_interval,
        )
        try:
            with inbox:
                await runner.run(inbox)
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
                stopped.tell()
                journal.append(RunStopped(reason=runner.end))
        logger.info("Pipeline shutdown complete")
        return self._exit_code(runner, host)

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
        self, host: Host, windows: WindowRunner, journal: Journal
    ) -> RunnerParts:
        return RunnerParts(
            plan=self.workflow.plan,
            run_dir=self.workflow.output_dir,
            input_dir=self.workflow.input_dir,
            windows=windows,
            workers=host,
            journal=journal,
            read_history=self._read_history,
            grace_s=self.settings.worker_grace,
            select=_Selector(self.pipeline.staging, self.workflow).select,
        )

    def _read_history(self) -> History:
        return read_history(read(self.workflow.output_dir / JOURNAL), self._versions)

    @property
    def _versions(self) -> dict[str, str]:
        return {task.name: task.version for task in self.pipeline.tasks}

    def _record_start(self, journal: Journal) -> None:
        tasks = self.pipeline.tasks
        event = RunStarted(
            format=FORMAT,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            python=platform.python_version(),
            snakemake=metadata.version("snakemake"),
            tasks={task.name: task.spec.depends_on for task in tasks},
            versions=self._versions,
            kinds={task.name: task.spec.kind for task in tasks},
            modules={task.name: task.module for task in tasks},
            params={task.name: dict(task.param_texts) for task in tasks},
            defaults={task.name: dict(task.param_defaults) for task in tasks},
        )
        journal.append(event)
        logger.info("Starting pipeline execution")

    @staticmethod
    def _exit_code(runner: Runner, host: Host) -> int:
        ledger = runner.ledger
        is_left = ledger.staged and not runner.is_stopping
        failed = ledger.failed or ledger.stuck or host.stuck or is_left
        return ExitCode.FAILED if failed else ExitCode.DONE


@dataclass(frozen=True)
class Controls:
    """What may be asked of a running service, from any thread."""

    loop: asyncio.AbstractEventLoop
    runner: Runner
    host: Host
    windows: WindowRunner
    forks: Forks
    lock: RunLock

    def snapshot(self) -> Snapshot:
        """Return how far it is; for the thread of the loop only."""
        return take_snapshot(self.runner, self.host)

    def stop(self) -> None:
        """Finish what is in hand, then end."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.runner.stop)

    def kill(self) -> None:
        """End all workers and windows at once, so that the process can end too.

        For a thread of its own: the loop may hang. The files in hand stay undone.
        """
        # Otherwise it might start others, or make again what is removed here.
        hold(self.loop)
        pids = [*self.windows.kill(), *self.host.kill()]
        _wait_for_ends(pids)
        for directory in self.runner.parts.plan.directories:
            for pid in pids:
                with contextlib.suppress(OSError):
                    remove_temporaries_of(directory, pid)
        # What the loop was storing, which may be at work still.
        remove_temporaries_of(STATE, os.getpid())
        for clean_up in (self.forks.abandon, self.host.abandon, self.lock.release):
            with contextlib.suppress(OSError):
                clean_up()


def _wait_for_ends(pids: list[int]) -> None:
    """Wait until processes that were killed are dead, though nobody may reap them."""
    deadline = time.monotonic() + KILLED_S
    for pid in pids:
        # Pythons that are built for old systems, as conda's are, cannot wait so.
        with contextlib.suppress(OSError, AttributeError):
            end = os.pidfd_open(pid)
            poll = select.poll()
            poll.register(end, select.POLLIN)
            poll.poll(max(0, deadline - time.monotonic()) * 1000)
            os.close(end)


class _Recorder:
    """Writes what became of each task's file to the journal and the log."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._on_blocked: Callable[[str, str], None] = lambda _stem, _reason: None
        self._on_tried: Callable[[str, str, bool], None] = lambda *_: None
        self._place: Callable[[str], int] = lambda _stem: 0

    def serve(self, runner: Runner) -> None:
        """Tell it what becomes of files; it is made later than this."""
        self._on_blocked, self._on_tried = runner.blocked, runner.tried
        self._place = runner.place

    def place(self, stem: str) -> int:
        return self._place(stem)

    def answered(self, told: WorkerTask, job: FileJob, answer: Answer) -> None:
        stem = job.output.name.removesuffix(told.output_ext)
        if answer.fate is Fate.BLOCKED:
            self._on_blocked(stem, answer.message)
        if answer.fate in {Fate.BLOCKED, Fate.UNDONE}:
            return
        event = TaskDone if answer.fate is Fate.DONE else TaskFailed
        tried = event(
            task=told.name,
            file=stem,
            started=answer.started,
            seconds=answer.seconds,
            worker=answer.worker,
        )
        self._journal.append(tried)
        self._on_tried(stem, told.name, answer.fate is Fate.DONE)
        if answer.fate is Fate.FAILED:
            several = told.workers > 1 and answer.worker
            who = f"worker {answer.worker}: " if several else ""
            logger.error("[{}] {}{}", told.name, who, printable(answer.message))

    def worker_changed(
        self, task: str, worker: int, state: WorkerState, note: str
    ) -> None:
        event = WorkerChanged(task=task, worker=worker, state=state, note=note)
        self._journal.append(event)


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
            # A callable step is the user's code, which may fork.
            with TaskCall():
                chosen = self._staging.select(sorted(by_path), context)
        except StagingError as error:
            if str(error) != self._last_problem:
                logger.warning("{}", error)
            self._last_problem = str(error)
            return []
        self._last_problem = ""
        return [by_path[path] for path in chosen]


class _StoppedTasks:
    """Tells the log and the journal of tasks that cannot run, each once."""

    def __init__(self, host: Host, journal: Journal) -> None:
        self._host = host
        self._journal = journal
        self._told: set[str] = set()

    def tell(self) -> None:
        for task, reason in self._host.stuck.items():
            if task not in self._told:
                self._told.add(task)
                self._journal.append(TaskStopped(task=task, reason=reason))
                logger.error("[{}] stopped: {}", task, reason)


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


async def _look_around(pipeline: Path, stopped: _StoppedTasks) -> None:
    """Tell of stopped tasks and of a changed pipeline file."""
    told = _state_of(pipeline)
    while True:
        await asyncio.sleep(LOOK_S)
        stopped.tell()
        if (state := _state_of(pipeline)) != told and state is not None:
            told = state
            logger.warning("{} has changed; restart to use it", pipeline)


def _state_of(path: Path) -> Signature | None:
    """Return what changes when a file is written; None while there is no such file."""
    try:
        return signature_of(path.stat())
    except OSError:
        # An editor replaces it, perhaps.
        return None
