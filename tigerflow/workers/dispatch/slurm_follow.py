"""Decide from looks at Slurm's queue whether a job is over: two in a row must miss it.

Also follows a job that Slurm accepted although `sbatch` failed (`AdoptedJob`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from tigerflow.workers.dispatch.scheduler import JobEvent
from tigerflow.workers.dispatch.slurm import Queue, QueuedJob, cancel

#: How often the queue is asked about a job, in seconds.
LOOK_S = 15.0

#: How soon it is asked when something must have changed, in seconds.
SOON_S = 2.0

#: How many looks in a row must miss a job before it is over, if nothing else says so.
MISSES = 2


class Follower:
    """Decides, look by look, whether a job is over."""

    def __init__(self, number: str, *, was_seen: bool) -> None:
        """Follow a job by its number; `was_seen` in the queue for sure, or not yet."""
        self.number = number
        self._was_seen = was_seen
        self._misses = 0

    def judge(
        self, queue: Mapping[str, QueuedJob], ended: Mapping[str, QueuedJob]
    ) -> QueuedJob | None:
        """Return how the job ended; None if it is not known to be over.

        Args:
            queue: what `Queue.look` has found.
            ended: what `Queue.ended` has found on jobs that are not in the queue.
        """
        job = queue.get(self.number) or ended.get(self.number)
        if job is not None:
            self._was_seen, self._misses = True, 0
            return job if job.has_ended else None
        # A number that Slurm has never known may be another scheduler's.
        self._misses += self._was_seen
        return QueuedJob(self.number, "") if self._misses >= MISSES else None


class AdoptedJob:
    """A job that Slurm accepted although its submission failed; see `Submission`."""

    def __init__(self, queue: Queue, name: str, number: str) -> None:
        """Follow a job by its number; `name` is ours."""
        self._queue = queue
        self._name = name
        self._number = number
        self._hurry = asyncio.Event()
        self._cancelling: set[asyncio.Task[None]] = set()
        self._is_over = False

    async def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the job, until it has ended; last is `ended`."""
        yield JobEvent(self._name, "submitted", self._number)
        follower, pause_s = Follower(self._number, was_seen=True), LOOK_S
        while not self._is_over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), pause_s)
            if self._hurry.is_set():
                # It was cancelled, and is over soon.
                self._hurry.clear()
                pause_s = SOON_S
            queue = await self._queue.look()
            if queue is None:
                continue
            missing = [] if self._number in queue else [self._number]
            found = follower.judge(queue, await self._queue.ended(missing))
            if found is not None:
                yield found.end(self._name)
                break
        yield JobEvent("", "ended", "it is no longer followed", is_killed=True)

    def cancel(self, jobs: Sequence[str] = ()) -> None:
        """Cancel the job, unless it has ended."""
        del jobs
        task = asyncio.create_task(self._cancel())
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel(self) -> None:
        await cancel([self._number])
        self._hurry.set()

    def end(self, job: str, state: str) -> None:
        """Do nothing: this object follows the job itself."""

    def kill(self) -> None:
        """Stop following the job, which continues."""
        self._is_over = True
        self._hurry.set()
