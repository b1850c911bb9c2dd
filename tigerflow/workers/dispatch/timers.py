"""The time that a worker may take for a call, when its task has a timeout."""

import asyncio

from tigerflow.settings import Settings
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.members import PoolFile, PoolWorker


class CallTimers:
    """Stops workers whose call takes longer than the task's timeout."""

    def __init__(self, task: WorkerTask, settings: Settings) -> None:
        """Take the timeout of `task`; a late worker has the grace time to end."""
        self._task = task
        self._grace_s = settings.worker_grace

    def start(self, worker: PoolWorker, file: PoolFile) -> None:
        """Count the time of a call that is being worked on, by one of its files."""
        if self._task.timeout is None:
            return
        limit_s = self._task.timeout * file.call_size
        if self._task.concurrency_limit > 1:
            # An async worker cancels the run itself, unless something blocks its loop,
            # and continues with the first of its files.
            limit_s += self._grace_s
            limit_s += self._task.timeout if file.call_size > 1 else 0
        file.stop_timer()
        file.timer = asyncio.get_running_loop().call_later(
            limit_s, self._end_late, worker, file
        )

    def start_next(self, worker: PoolWorker, answered: PoolFile) -> None:
        """Count the time of the file that comes after another."""
        if self._task.timeout is None:
            return
        for file in worker.in_flight.values():
            # The files of a call whose `run_batch` has raised come one by one.
            if self._task.concurrency_limit == 1 or file.call == answered.call:
                self.start(worker, file)
                return

    def _end_late(self, worker: PoolWorker, file: PoolFile) -> None:
        """Stop a worker whose file took too long; the files are judged at its end."""
        for other in worker.in_flight.values():
            other.is_late = other.is_late or other.call == file.call
        worker.is_late = True
        worker.stop(self._grace_s)
