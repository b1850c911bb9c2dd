"""Serve a Slurm task by itself: the files of a directory go to workers in jobs."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tigerflow.compiler.worker_tasks import build_worker_task
from tigerflow.compiler.workflow_directory import write_workers
from tigerflow.engine.forks import Forks
from tigerflow.engine.internals import check_snakemake
from tigerflow.engine.submission import Submitter
from tigerflow.errors import (
    InternalError,
    OutputDirectoryError,
    RunningError,
    TigerflowError,
)
from tigerflow.faults import begin, end_on_faults
from tigerflow.log import logger
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.layout import STATE
from tigerflow.rundir.lock import RunLock
from tigerflow.service.signals import Start, hold
from tigerflow.service.task_directory import DirectorySource, Outcome
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.job_source import Lifecycle
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers import client
from tigerflow.workers.dispatch.fleet import Fleet
from tigerflow.workers.dispatch.pool import TaskPool
from tigerflow.workers.dispatch.status import CANCELLED, FAILED
from tigerflow.workers.protocol import Answer, Fate


class SlurmTaskService:
    """The service of one Slurm task."""

    #: What to call, in this order, so that a process that ends at once leaves nothing.
    _clean_up: tuple[Callable[[], None], ...] = ()

    def __init__(
        self,
        pipeline: Pipeline,
        output_dir: Path,
        settings: Settings,
        workers_profile: Path | None = None,
    ) -> None:
        """Serve the only task of `pipeline`, with results directly in `output_dir`.

        The Snakemake profile `workers_profile` says how workers are submitted; by
        default, the one that comes with this package.
        """
        self._pipeline = pipeline
        self._output_dir = output_dir
        self._settings = settings
        self._profile = workers_profile
        self._start = Start()

    def serve(self, source: DirectorySource, lifecycle: Lifecycle) -> None:
        """Process the source's files until it has no more, then end all jobs.

        Raises:
            UnsupportedSnakemakeError: Snakemake is too old or too new.
            RunningError: another service or task is using the output directory.
            OutputDirectoryError: the output directory cannot be written.
        """
        check_snakemake()
        task = self._worker_task()
        self._start.begin()
        try:
            (self._output_dir / STATE / "logs").mkdir(parents=True, exist_ok=True)
            os.chdir(self._output_dir)
            scratch = Path(f"{client.socket_path()}.forks")
            with RunLock(STATE, "Task") as lock, Forks(scratch) as forks:
                asyncio.run(self._serve(task, forks, lock, _Feeder(source, lifecycle)))
        except client.HostError as error:
            raise RunningError(str(error)) from error
        except OSError as error:
            raise OutputDirectoryError(self._output_dir, error) from error

    def kill(self) -> None:
        """Clean up, since this process ends at once; from any thread.

        The child that has submitted the jobs sees that this process ends, and cancels
        them.
        """
        self._start.wait()
        for clean_up in self._clean_up:
            with contextlib.suppress(OSError):
                clean_up()

    def _worker_task(self) -> WorkerTask:
        [task] = self._pipeline.tasks
        # Only a container needs to know its input directory, and it has none.
        run_dir = self._output_dir
        described = build_worker_task(self._pipeline, task, run_dir, run_dir)
        # There, setup commands and the task start, and relative paths among params.
        return replace(described, working_dir=str(Path.cwd()))

    async def _serve(
        self, task: WorkerTask, forks: Forks, lock: RunLock, feeder: "_Feeder"
    ) -> None:
        end_on_faults(feeder.fail)
        run_dir = self._output_dir
        workflow = write_workers(self._pipeline, run_dir)
        submitter = Submitter(workflow, run_dir, forks, self._profile)
        # No worker runs on this host, so none locks it.
        alive = Path(f"{client.socket_path()}.alive")
        fleet = Fleet(run_dir, self._settings, alive, submitter.submit)
        fleet.start()
        pool = fleet.pool(task, is_only=True)
        stand_still = partial(hold, asyncio.get_running_loop())
        self._clean_up = (stand_still, forks.abandon, lock.release, fleet.abandon)
        self._start.end()
        looking = begin(lock.look_after())
        try:
            await feeder.serve(pool, self._settings.task_poll_interval)
        finally:
            await feeder.close(fleet)
            # Not before: till then, other hosts see that it lives, and are heard.
            looking.cancel()
            fleet.show_end(feeder.reason)


class _Feeder:
    """Takes files from a source, and reports to it what became of them."""

    def __init__(self, source: DirectorySource, lifecycle: Lifecycle) -> None:
        self._source = source
        self._lifecycle = lifecycle
        self._in_flight: set[asyncio.Task[None]] = set()
        self._logged_done = self._logged_failed = 0
        #: Why the task ends; None if it has nothing left to do.
        self.reason: str | None = None

    async def serve(self, pool: TaskPool, interval_s: float) -> None:
        """Pass files on until there are no more, or until the task is stopped."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            # A signal may come after the end.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

        self._source.on_stop(stop)
        feeding = asyncio.create_task(self._feed(pool))
        stopped = asyncio.create_task(stopping.wait())
        counting = begin(self._count(interval_s))
        await asyncio.wait({feeding, stopped}, return_when=asyncio.FIRST_COMPLETED)
        counting.cancel()
        stopped.cancel()
        feeding.cancel()
        if pool.failure is not None:
            self.reason = FAILED
        elif stopping.is_set():
            self.reason = CANCELLED
        with contextlib.suppress(asyncio.CancelledError):
            await feeding

    def fail(self, error: Exception) -> None:
        """End because of an unexpected error."""
        if self._source.error is None:
            logger.opt(exception=error).error("Internal error")
        self._source.stop_for(InternalError(error))

    async def close(self, fleet: Fleet) -> None:
        """Give files in progress the grace time, then stop all workers."""
        self._lifecycle.shutting_down()
        fleet.drain()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=self._source.patience_s())
        await fleet.stop()
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        self._log_counts()
        for problem in fleet.problems:
            self._source.stop_for(TigerflowError(problem))

    async def _feed(self, pool: TaskPool) -> None:
        # Enough for all workers there may be, and not more: a file that waits here may
        # change or go.
        slots = asyncio.Semaphore(pool.most_in_hand)

        def release(task: asyncio.Task[None]) -> None:
            self._in_flight.discard(task)
            slots.release()

        while True:
            await slots.acquire()
            job = await in_thread(self._source.next)
            if job is None:
                break
            task = begin(self._process(pool, job))
            self._in_flight.add(task)
            task.add_done_callback(release)
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def _process(self, pool: TaskPool, job: FileJob) -> None:
        # Results are named as seen from the run directory, on all hosts.
        there = FileJob(job.input, Path(job.output.name), Path(job.error.name))
        answer = await pool.process(there)
        match answer.fate:
            case Fate.DONE | Fate.FAILED:
                if answer.fate is Fate.FAILED and not answer.started:
                    # No worker was left to log it.
                    logger.error("{}", answer.message)
                self._source.settle(job, _outcome(answer))
            case Fate.BLOCKED:
                error = TigerflowError(answer.message)
                self._source.blocked(job, error, is_outage=answer.is_outage)
            case Fate.UNDONE:
                self._source.give_back(job)
        if pool.failure is not None:
            text = f"{pool.failure}\n{pool.failure_traceback}".rstrip()
            self._source.stop_for(TigerflowError(text))

    async def _count(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self._log_counts()

    def _log_counts(self) -> None:
        """Log how many files are done and failed since the last time."""
        done = self._source.succeeded - self._logged_done
        failed = self._source.failed - self._logged_failed
        if done:
            logger.info("{} processed files", done)
        if failed:
            logger.error("{} failed files", failed)
        self._logged_done += done
        self._logged_failed += failed


def _outcome(answer: Answer) -> Outcome:
    failure = answer.message if answer.fate is Fate.FAILED else None
    if not answer.started:
        # Its worker died: nobody knows when.
        return Outcome(None, None, failure)
    started = datetime.fromisoformat(answer.started)
    finished = started + timedelta(seconds=answer.seconds)
    return Outcome(started.isoformat(), finished.isoformat(), failure)
