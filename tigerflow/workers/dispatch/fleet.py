"""The pools of a run directory, and what their workers in jobs share.

A worker host has one fleet; so has a Slurm task that runs by itself.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from tigerflow.faults import begin
from tigerflow.files import remove_abandoned_temporaries
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.earlier import stop_earlier_workers
from tigerflow.workers.dispatch.jobs import JobLauncher, JobService
from tigerflow.workers.dispatch.link import Launcher
from tigerflow.workers.dispatch.local import LocalLauncher, kill_unknown
from tigerflow.workers.dispatch.mailbox_poller import MailboxPoller
from tigerflow.workers.dispatch.members import WorkerListener, ignore
from tigerflow.workers.dispatch.pool import Load, TaskPool
from tigerflow.workers.dispatch.scheduler import Submit
from tigerflow.workers.dispatch.slurm_watch import SlurmWatch
from tigerflow.workers.dispatch.status import FAILED, TaskStatus
from tigerflow.workers.mailbox import remove_empty_mailboxes

#: A task's name and its whole description: a task that was compiled again in another
#: form has a pool of its own.
_Key = tuple[str, str]


class Fleet:
    """The workers of all tasks of one run directory."""

    def __init__(
        self,
        run_dir: Path,
        settings: Settings,
        alive: Path,
        submit: Submit | None = None,
        *,
        on_worker: WorkerListener = ignore,
        retries_here: bool = True,
    ) -> None:
        """Have no worker yet.

        Args:
            run_dir: the run directory.
            settings: those of the service or the host.
            alive: the file that workers on this host lock for as long as they live.
            submit: submits workers of Slurm tasks as jobs; without it, these too are
                processes of this host.
            on_worker: called with each change of a worker.
            retries_here: whether a file is retried when its worker on this host dies.
                Plain Snakemake has `--retries` for that.
        """
        self._run_dir = run_dir
        self._settings = settings
        self._alive = alive
        self._submit = submit
        self._retries_here = retries_here
        self._on_worker = on_worker
        self._pools: dict[_Key, TaskPool] = {}
        #: Of the pools whose workers are jobs.
        self._statuses: dict[_Key, TaskStatus] = {}
        self._slurm_watch = SlurmWatch()
        self._poller: MailboxPoller | None = None
        #: Done when no worker of an earlier service is left.
        self._earlier: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to end the workers of an earlier service; none of ours comes before."""
        if self._submit is not None:
            self._earlier = begin(stop_earlier_workers(self._run_dir, self._settings))

    def pool(
        self, task: WorkerTask, results: Iterable[Path] = (), *, is_only: bool = False
    ) -> TaskPool:
        """Return the pool of a task, as it is described; make it if it is new.

        Args:
            task: the description of the task.
            results: where its results go. A new pool begins with the removal of
                temporary files that are left there.
            is_only: whether there is no other task, so that log lines on its jobs need
                not name it.

        Raises:
            OSError: the mailboxes cannot be made.
            OutputDirectoryError: a directory of results cannot be read.
        """
        key = (task.name, repr(task))
        if key not in self._pools:
            for directory in {*results}:
                if directory.is_dir():
                    remove_abandoned_temporaries(directory)
            launcher = self._launcher(task, key, is_only=is_only)
            self._pools[key] = self._new_pool(task, launcher)
        return self._pools[key]

    def _new_pool(self, task: WorkerTask, launcher: Launcher) -> TaskPool:
        is_job = task.remote and self._submit is not None
        retries = 0
        if self._retries_here or is_job:
            retries = self._settings.worker_attempts - 1
        return TaskPool(
            *(task, self._run_dir, self._settings, launcher, retries, self._on_worker)
        )

    def _launcher(self, task: WorkerTask, key: _Key, *, is_only: bool) -> Launcher:
        if not task.remote or self._submit is None:
            return LocalLauncher(task, self._run_dir, self._alive)
        assert self._earlier is not None  # noqa: S101 -- it was started, and may submit
        if self._poller is None:
            self._poller = MailboxPoller.for_run(self._run_dir, self._settings)
        status = TaskStatus("" if is_only else task.name, self._slurm_watch.queue)
        self._statuses[key] = status
        service = JobService(
            self._poller, self._submit, self._earlier, self._slurm_watch
        )
        return JobLauncher(task, self._run_dir, self._settings, service, status)

    def drain(self) -> None:
        """Take no more files; those that workers have are finished."""
        for pool in self._pools.values():
            pool.drain()

    async def stop(self) -> None:
        """End all workers, with teardown, and all jobs; wait for that."""
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))
        await self._slurm_watch.close()
        if self._poller is not None:
            await in_thread(self._poller.close)

    def show_end(self, how: str | None = None) -> None:
        """Log, of each task with jobs, that these have ended, and how: see `status`."""
        for key, status in self._statuses.items():
            status.end(FAILED if self._pools[key].failure else how)

    def kill(self) -> list[int]:
        """Kill all workers, without teardown; return the process ids of those here.

        From any thread.
        """
        pools = list(self._pools.values())
        pids = [pid for pool in pools for pid in pool.kill()]
        return pids + kill_unknown(pids)

    def abandon(self) -> None:
        """Remove the mailboxes that no job has; from any thread, when all is killed."""
        if self._poller is not None:
            remove_empty_mailboxes(self._run_dir)

    def fail(self, reason: str, log: Path) -> None:
        """Stop all tasks, with one reason; the files that wait get an answer."""
        for pool in self._pools.values():
            pool.fail(reason, log)

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a worker nor a file."""
        return all(pool.is_idle for pool in self._pools.values())

    @property
    def problems(self) -> list[str]:
        """What went wrong at the workers' teardown."""
        return [each for pool in self._pools.values() for each in pool.problems]

    @property
    def stuck(self) -> dict[str, str]:
        """The tasks that cannot run, with the reason."""
        pools = {name: pool for (name, _), pool in self._pools.items()}
        return {name: pool.failure for name, pool in pools.items() if pool.failure}

    @property
    def loads(self) -> dict[str, Load]:
        """What the workers of each task are working on."""
        return {name: pool.load for (name, _), pool in self._pools.items()}

    @property
    def crowded(self) -> frozenset[str]:
        """The tasks that have more files than their workers take at once."""
        pools = self._pools.items()
        return frozenset(name for (name, _), pool in pools if pool.is_crowded)
