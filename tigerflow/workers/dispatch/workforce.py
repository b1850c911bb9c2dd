"""Start the workers of a pool when they are needed, and follow each to its end.

Their answers for files go to the pool; this module handles all else. When no worker can
start, the task stops: see `starts`.
"""

import asyncio
from pathlib import Path

from tigerflow.log import logger
from tigerflow.rundir.events import WorkerState
from tigerflow.rundir.layout import RunLayout
from tigerflow.settings import Settings
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.link import Ending, Launcher, LaunchError, NoRoomError
from tigerflow.workers.dispatch.members import (
    FileSide,
    PoolWorker,
)
from tigerflow.workers.dispatch.starts import Cause, FailedStart, Starts, failed_start
from tigerflow.workers.protocol import (
    Answer,
    HandedBack,
    Left,
    Message,
    Ready,
    SetupFailed,
    Started,
    TeardownFailed,
)


class Workforce:
    """The workers of one task in one run directory."""

    def __init__(
        self,
        task: WorkerTask,
        layout: RunLayout,
        settings: Settings,
        launcher: Launcher,
        attempts: int,
        files: FileSide,
    ) -> None:
        """Work for `files`; `attempts` to start a worker may fail: see `Starts`."""
        self._task = task
        self._settings = settings
        self._launcher = launcher
        self._files = files
        self._log = layout.task_log(task.name)
        #: The log of submissions: it says why a job has not started.
        self._jobs_log = layout.jobs_log
        self.members: set[PoolWorker] = set()
        #: Each follows a worker from before its launch until its place is free.
        self._supervisors: set[asyncio.Task[None]] = set()
        #: How many are being launched, and have no link yet.
        self._launching = 0
        self._launched = 0
        self._starts = Starts(attempts)
        self._is_stopped = False
        #: Why the task cannot run, once that is known.
        self.failure: str | None = None
        #: The traceback of what its setup has raised, if that is why.
        self.failure_traceback = ""
        #: What went wrong at teardown.
        self.problems: list[str] = []

    @property
    def is_idle(self) -> bool:
        """Whether there is no worker, nor one to come."""
        return not self._supervisors

    @property
    def has_place(self) -> bool:
        """Whether there may be one worker more."""
        return len(self._supervisors) < self._task.workers

    def start_workers(self, waiting: int, at_once: int) -> None:
        """Start as many workers as are needed, and fill the jobs that they share.

        Args:
            waiting: how many files wait.
            at_once: how many files each worker takes at once.
        """
        share = self._task.workers_per_job if self._task.remote else 1
        started = 0
        while self._needs_another(waiting, at_once) or (
            started % share and self.has_place
        ):
            started += 1
            self._launching += 1
            supervisor = asyncio.create_task(self._supervise())
            self._supervisors.add(supervisor)
            supervisor.add_done_callback(self._free_place)

    def _needs_another(self, waiting: int, at_once: int) -> bool:
        if self._starts.is_paused:
            return False
        coming = self._launching + sum(worker.is_coming for worker in self.members)
        return self.has_place and waiting > coming * at_once

    def watch_idleness(self, *, is_needed: bool) -> None:
        """Stop workers that get no file for the idle time.

        Also those that have yet to start, unless they are needed for files that wait.
        """
        for worker in self.members:
            if worker.stopping or worker.in_flight:
                continue
            if worker.started and not worker.ready:
                # It sets up; another timer runs.
                continue
            if not worker.ready and is_needed:
                worker.stop_timer()
            elif worker.timer is None and (worker.ready or self._task.remote):
                worker.timer = asyncio.get_running_loop().call_later(
                    self._settings.worker_idle_timeout, self.stop_worker, worker
                )

    def stop_worker(self, worker: PoolWorker) -> None:
        """Have a worker give up what it has, tear down and end; kill it if it stays."""
        worker.stop(self._settings.worker_grace)

    async def stop(self) -> None:
        """Stop all workers and wait for them; kill those that stay."""
        self._is_stopped = True
        for worker in self.members:
            self.stop_worker(worker)
        closing = asyncio.create_task(self._launcher.close())
        if self._supervisors:
            await asyncio.wait(self._supervisors)
        await closing

    def kill(self) -> list[int]:
        """Kill all workers, without teardown; return the process ids of those here.

        From any thread.
        """
        workers = list(self.members)
        for worker in workers:
            worker.stopping = True
        links = [worker.link for worker in workers]
        for link in links:
            link.kill()
        return [link.pid for link in links if link.pid is not None]

    def fail(self, reason: str, log: Path | None = None) -> None:
        """Stop the task, which cannot run; the files that wait get an answer."""
        self.failure = (
            f"task {self._task.name!r} cannot run: {reason} (see {log or self._log})"
        )
        for worker in self.members:
            if not worker.ready:
                self.stop_worker(worker)
        self._files.dispatch()

    async def _supervise(self) -> None:
        """Start one worker, and follow it to its end."""
        try:
            link = await self._launcher.launch()
        except LaunchError as error:
            self._see_no_start(error)
            return
        finally:
            self._launching -= 1
        self._launched += 1
        worker = PoolWorker(link, self._launched, link.log_start)
        self.members.add(worker)
        self._files.note_change(worker, WorkerState.LAUNCHED)
        if self._is_stopped or self.failure:
            self.stop_worker(worker)
        listening = asyncio.create_task(self._listen(worker))
        ending = await link.wait()
        self.members.discard(worker)
        self._files.note_change(worker, WorkerState.ENDED, ending.how)
        worker.stop_timer()
        listening.cancel()
        self._see_end(worker, ending)
        self._files.dispatch()
        # Until then, no other worker may take its place.
        await link.gone()

    def _free_place(self, supervisor: asyncio.Task[None]) -> None:
        self._supervisors.discard(supervisor)
        if not supervisor.cancelled() and (error := supervisor.exception()) is not None:
            # A bug: the files that wait must get an answer.
            logger.opt(exception=error).error("[{}] internal error", self._task.name)
            self.fail(f"internal error: {error!r}")
        # Its place is free only now: files may have waited for a fresh worker.
        self._files.dispatch()

    def _see_no_start(self, error: LaunchError) -> None:
        if isinstance(error, NoRoomError):
            # Neither the task nor its files are to blame: the files come again.
            self._files.block(error)
        elif not self._is_stopped:
            self.fail(f"its worker cannot be started: {error}")

    async def _listen(self, worker: PoolWorker) -> None:
        try:
            async for message in worker.link.receive():
                self._take(worker, message)
                self._files.dispatch()
        except Exception:  # noqa: BLE001 -- its files must not wait forever
            logger.exception("Cannot understand a worker of task {!r}", self._task.name)
            worker.link.kill()

    def _take(self, worker: PoolWorker, message: Message) -> None:
        match message:
            case Ready():
                self._take_ready(worker)
            case SetupFailed(reason, trace, is_shortage):
                cause = Cause.SHORTAGE if is_shortage else Cause.REFUSED
                failed = FailedStart(
                    "its setup failed", reason, cause, worker.node, trace
                )
                self._see_failed_start(worker, failed)
            case TeardownFailed(reason):
                self.problems.append(
                    f"task {self._task.name!r}: teardown failed: {reason} "
                    f"(see {self._log})",
                )
            case Started() as started:
                self._take_start(worker, started)
            case Answer() as answer:
                self._files.take_answer(worker, answer)
            case HandedBack(ids):
                self._files.take_back(worker, ids)
            case Left() as left:
                worker.left = left
            case _:
                pass

    def _take_start(self, worker: PoolWorker, started: Started) -> None:
        worker.note_start(started)
        self._files.note_change(worker, WorkerState.STARTED, started.host)
        if not worker.stopping:
            worker.stop_timer()
            timeout_s = self._settings.slurm_task_worker_startup_timeout
            loop = asyncio.get_running_loop()
            worker.timer = loop.call_later(timeout_s, self._end_slow_start, worker)

    def _take_ready(self, worker: PoolWorker) -> None:
        worker.note_ready()
        self._files.note_change(worker, WorkerState.READY)
        self._starts.note_ready()

    def _end_slow_start(self, worker: PoolWorker) -> None:
        timeout_s = self._settings.slurm_task_worker_startup_timeout
        what = f"its setup took longer than {timeout_s} s"
        self._see_failed_start(worker, FailedStart(what, "", node=worker.node))
        self.stop_worker(worker)

    def _see_end(self, worker: PoolWorker, ending: Ending) -> None:
        """Note how a worker has ended."""
        if worker.is_early and not self.failure:
            failed = failed_start(worker, ending)
            if failed is not None:
                is_unborn = self._task.remote and not ending.has_started
                log = self._jobs_log if is_unborn else self._log
                self._see_failed_start(worker, failed, log)
        if worker.stopping and ending.is_killed:
            self.problems.append(
                f"task {self._task.name!r}: a worker {ending.how} before its "
                f"teardown was finished; it has {self._settings.worker_grace} s for it",
            )
        self._files.settle_files(worker, ending)

    def _see_failed_start(
        self, worker: PoolWorker, failed: FailedStart, log: Path | None = None
    ) -> None:
        """Stop the task, or continue with other workers, after a failed start."""
        worker.has_failed = True
        others = self.members - {worker}
        reason = self._starts.take(failed, worker, self._launched, others)
        if reason is not None:
            self.failure_traceback = failed.trace
            self.fail(reason, log)
            return
        if failed.cause is Cause.CHANCE:
            # Another takes its place at once.
            return
        if failed.cause is not Cause.EVICTED:
            self._launcher.avoid(failed.node)
        self._pause_starts(failed, log)

    def _pause_starts(self, failed: FailedStart, log: Path | None) -> None:
        pause_s = self._starts.pause_s
        logger.warning(
            "[{}] {} (see {}); waiting {:.0f} s before the next start",
            *(self._task.name, failed.sentence_with_node, log or self._log, pause_s),
        )
        self._starts.pause(self._files.dispatch)
