"""Log the status of a task's jobs: submitted, pending, active, inactive."""

import asyncio

from tigerflow.log import logger
from tigerflow.workers.dispatch.slurm import Queue

#: Seconds in which changes of the number of workers make one line.
SETTLE_S = 1.0

#: Seconds until Slurm is first asked why jobs wait, and between later questions.
FIRST_REASON_S, REASON_S = 2.0, 15.0

#: How a task may end, in Slurm's words for jobs.
COMPLETED, CANCELLED, FAILED = "COMPLETED", "CANCELLED", "FAILED"


class TaskStatus:
    """Logs each change of a task's status; for the thread of the event loop only.

    A task is INACTIVE before its first job and after its last, PENDING while jobs wait
    and no worker runs, and otherwise ACTIVE, even if it has no worker because no file
    waits.
    """

    def __init__(self, task: str = "", queue: Queue | None = None) -> None:
        """Name `task` in each line, if it is not the only one; ask `queue` why."""
        self._prefix = f"[{task}] " if task else ""
        #: The scheduler's numbers of jobs that wait, by our names of them.
        self._pending: dict[str, str] = {}
        self._workers = 0
        self._reason = "None"
        self._queue = queue or Queue()
        self._knows_reasons = self._queue.is_here
        self._asking: asyncio.Task[None] | None = None
        self._shown = "INACTIVE"
        self._settling: asyncio.TimerHandle | None = None
        self._is_closing = False

    def submitted(self, job: str, number: str) -> None:
        """Note that a job waits, by the scheduler's number."""
        kind = "Slurm job" if self._knows_reasons else "job"
        logger.info("{}Submitted task with {} ID {}", self._prefix, kind, number)
        self._pending[job] = number
        if self._asking is None and self._knows_reasons:
            self._asking = asyncio.create_task(self._ask_for_reasons())
        self._look()

    def worker_started(self, job: str) -> None:
        """Note that a worker in a job runs; it may still set up."""
        self._pending.pop(job, None)
        self._workers += 1
        self._look()

    def worker_ended(self) -> None:
        """Note that a worker that had started has ended."""
        self._workers -= 1
        self._look()

    def job_ended(self, job: str) -> None:
        """Note that a job is over, whether or not a worker has started in it."""
        if self._pending.pop(job, None) is not None:
            self._look()

    async def close(self) -> None:
        """Show only the end from now on, not each worker that ends."""
        self._is_closing = True
        if self._settling is not None:
            self._settling.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def end(self, how: str | None = None) -> None:
        """Show that all jobs have ended, and `how`; it is closed.

        By default, CANCELLED if jobs waited in vain, else COMPLETED.
        """
        if self._shown == "INACTIVE":
            return
        how = how or (CANCELLED if self._shown.startswith("PENDING") else COMPLETED)
        is_well = how == COMPLETED
        self._show(f"INACTIVE (Reason: {how})", "INFO" if is_well else "ERROR")

    def _look(self) -> None:
        """Show a change of status at once, one of numbers once they have settled."""
        now = self._status()
        if self._is_closing or now == self._shown:
            return
        is_number = now.startswith("ACTIVE") and self._shown.startswith("ACTIVE")
        if self._settling is not None:
            if is_number:
                return
            self._settling.cancel()
        self._show(now)
        self._settling = asyncio.get_running_loop().call_later(SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settling = None
        self._look()

    def _status(self) -> str:
        if self._workers or not self._pending:
            return f"ACTIVE ({self._workers} workers)"
        return (
            f"PENDING (Reason: ({self._reason}))" if self._knows_reasons else "PENDING"
        )

    def _show(self, status: str, level: str = "INFO") -> None:
        line = "{}Status changed: {} -> {}"
        logger.log(level, line, self._prefix, self._shown, status)
        self._shown = status

    async def _ask_for_reasons(self) -> None:
        """Ask Slurm why jobs wait, while jobs wait and no worker runs."""
        pause_s = FIRST_REASON_S
        while self._pending and not self._workers:
            await asyncio.sleep(pause_s)
            pause_s = REASON_S
            queue = await self._queue.look(max_age_s=REASON_S / 2) or {}
            jobs = [queue[n] for n in self._pending.values() if n in queue]
            # The one of the job that was submitted first.
            waiting = [job.reason for job in jobs if job.state == "PENDING"]
            self._reason = next(iter(waiting), self._reason)
            self._look()
        self._asking, self._reason = None, "None"
