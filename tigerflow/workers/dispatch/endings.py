"""Decide what becomes of the files of a worker that has ended.

A file whose worker died is retried alone on a worker, so that a file that kills its
worker takes no others with it. After the retries it fails, with an `.err` that names
the signal or exit code. What the scheduler does is not held against a file: one whose
worker's job was cancelled or preempted is retried many times. If several files shared
the call, each is first retried in a call of its own, and only what happens then counts.
The errors made here are `WorkerDied`, `WorkerEvicted`, `WallTimeOver` and
`TimeoutError`.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tigerflow.errors import OutputDirectoryError
from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.settings import Settings
from tigerflow.tasks.async_loop import timeout_message
from tigerflow.tasks.error_file import ErrorRecord, write_error
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.link import Ending, log_tail
from tigerflow.workers.dispatch.members import PoolFile, PoolWorker
from tigerflow.workers.dispatch.starts import MOST_EVICTIONS
from tigerflow.workers.protocol import Answer, Fate, LeaveReason

#: How many workers' wall times may end while they work on a file.
MOST_CUTS = 3

#: The share of a worker's time that a file must have had for the time to be too short.
MOST_OF_IT = 0.8

GIVEN_UP = "given up: the run has ended"


class WorkerEndings:
    """Decides whether files are retried or fail, by how their worker has ended."""

    def __init__(
        self,
        task: WorkerTask,
        run_dir: Path,
        settings: Settings,
        retries: int,
        put_back: Callable[[PoolFile], None],
    ) -> None:
        """Retry files up to `retries` times: `put_back` gets them."""
        self._task = task
        self._run_dir = run_dir
        self._settings = settings
        self._retries = retries
        self._put_back = put_back

    def settle_files(self, worker: PoolWorker, ending: Ending) -> None:
        """Settle or put back the files that a worker had when it ended."""
        in_flight = list(worker.in_flight.values())
        for directory in {self._run_dir / each.job.output.parent for each in in_flight}:
            worker.link.remove_temporaries(directory)
        # Even if that file was finished after all: those behind it go to others.
        late = worker.is_late
        for file in reversed(in_flight):
            file.stop_timer()
            begun = self._is_shared or file.call == in_flight[0].call
            if file.is_late:
                self._see_late(worker, file)
            elif late or not (begun or worker.stopping):
                # The worker had not begun it.
                self._put_back(file)
            else:
                self._see_interrupted(worker, file, ending)
        why = "run_batch took too long" if late else f"the worker {ending.how}"
        self._tell_of_singles(in_flight, why)

    def _tell_of_singles(self, files: Sequence[PoolFile], why: str) -> None:
        count = sum(file.is_single and file.call_size > 1 for file in files)
        if count:
            many = f"retrying {count} files one by one"
            logger.warning("[{}] {}; {}", self._task.name, why, many)

    def _single_out(self, file: PoolFile) -> None:
        """Retry a file alone that was in one call with others."""
        file.is_single, file.is_late = True, False
        file.cuts, file.cut_s = 0, 0.0
        self._put_back(file)

    def _see_late(self, worker: PoolWorker, file: PoolFile) -> None:
        if file.call_size > 1:
            self._single_out(file)
            return
        message = timeout_message(self._task.timeout)
        self._blame(worker, file, "TimeoutError", message)

    @property
    def _is_shared(self) -> bool:
        return self._task.concurrency_limit > 1

    def _see_interrupted(
        self, worker: PoolWorker, file: PoolFile, ending: Ending
    ) -> None:
        if worker.stopping:
            file.settle(Answer(0, Fate.UNDONE, GIVEN_UP))
        elif worker.is_evicted(ending):
            self._see_eviction(worker, file, ending)
        elif worker.left is None:
            self._see_death(worker, file, ending)
        elif worker.left.why is LeaveReason.WALL_TIME:
            self._see_cut(worker, file)
        else:
            self._put_back(file)

    def _see_cut(self, worker: PoolWorker, file: PoolFile) -> None:
        """Retry a file that a worker gave up at the end of its wall time."""
        ran_s = time.time() - worker.began
        file.cuts += 1
        file.cut_s = max(file.cut_s, ran_s)
        ends_at = worker.ends_at or time.time()
        had_s = ends_at - self._settings.worker_wall_time_grace - worker.ready_at
        name = printable(file.job.input.name)
        if ran_s < MOST_OF_IT * had_s and file.cuts < MOST_CUTS:
            logger.info("[{}] {} is retried in a new worker", self._task.name, name)
            self._put_back(file)
            return
        if file.call_size > 1:
            self._single_out(file)
            return
        message = (
            f"{name} was not finished when its worker's wall time ended, "
            f"{file.cut_s:.0f} s after it began; allow more time in the task's "
            "worker_resources"
        )
        self._blame(worker, file, "WallTimeOver", message)

    def _see_eviction(self, worker: PoolWorker, file: PoolFile, ending: Ending) -> None:
        """Retry a file whose worker's job the scheduler has ended."""
        name, how = printable(file.job.input.name), worker.how_ended(ending)
        message = f"the worker {how} while processing {name}"
        file.evictions += 1
        if file.evictions < MOST_EVICTIONS:
            logger.warning("[{}] {}; retrying", self._task.name, message)
            self._put_back(file)
            return
        if file.call_size > 1:
            self._single_out(file)
            return
        message += f"; its scheduler has ended {file.evictions} jobs that had this file"
        self._blame(worker, file, "WorkerEvicted", message)

    def _see_death(self, worker: PoolWorker, file: PoolFile, ending: Ending) -> None:
        if file.call_size > 1:
            self._single_out(file)
            return
        name = printable(file.job.input.name)
        # Files that were sent ahead were not even begun.
        others = len(worker.in_flight) - 1 if self._is_shared else 0
        company = f" and {others} other files" if others else ""
        message = f"the worker {ending.how} while processing {name}{company}"
        file.deaths += 1
        if file.deaths > self._retries:
            self._blame(worker, file, "WorkerDied", message)
            return
        logger.warning("[{}] {}; retrying", self._task.name, message)
        self._put_back(file)

    def _blame(
        self, worker: PoolWorker, file: PoolFile, exception_type: str, message: str
    ) -> None:
        job = file.job
        record = ErrorRecord(
            file=job.input.name,
            timestamp=datetime.now(UTC).isoformat(),
            exception_type=exception_type,
            message=message,
            traceback="",
            task=self._task.name,
            printed=log_tail(worker.link.log, worker.log_start),
        )
        try:
            write_error(job, record, self._run_dir)
        except OutputDirectoryError as error:
            answer = Answer(0, Fate.BLOCKED, str(error), is_outage=error.is_outage)
            file.settle(answer)
            return
        if exception_type == "TimeoutError":
            message = f"{printable(job.input.name)} failed: {exception_type}: {message}"
        message = f"{message} (see {job.error})"
        file.settle(Answer(0, Fate.FAILED, message))
