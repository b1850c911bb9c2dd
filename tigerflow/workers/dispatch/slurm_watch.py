"""Asks Slurm about jobs that show no sign of life, and has those end that are over.

The plugin that follows a job may hear of its end in words that it does not
understand, or never. So nothing that it fails to say keeps a worker coming.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from tigerflow.faults import begin
from tigerflow.log import logger
from tigerflow.workers.dispatch.scheduler import JobEvent
from tigerflow.workers.dispatch.slurm import REQUEUED, Queue, QueuedJob, cancel
from tigerflow.workers.dispatch.slurm_follow import LOOK_S, SOON_S, Follower
from tigerflow.workers.dispatch.slurm_reasons import never_starts
from tigerflow.workers.dispatch.submitted import Job

#: How long Slurm may take a job after sbatch has given up: it has a queue of requests.
DOUBT_S = 600.0

#: How many looks a job is left to the plugin whose workers have ended.
PATIENCE = 3


class SlurmWatch:
    """Watches the jobs of a run directory, of all its tasks."""

    def __init__(self, queue: Queue | None = None) -> None:
        """Ask `queue`."""
        self.queue = queue or Queue()
        self._followers: dict[Job, Follower] = {}
        self._silences: dict[Job, int] = {}
        #: Why jobs wait that Slurm would never start, by what the last look brought.
        self._stuck: dict[Job, str] = {}
        #: Our names of jobs that Slurm may have taken, and until when.
        self._doubts: dict[str, float] = {}
        self._hurry = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    def watch(self, job: Job, *, is_in_slurm: bool) -> None:
        """Watch a job that has a number; of Slurm's for sure, or perhaps."""
        if job.number is None or not self.queue.is_here:
            return
        self._followers[job] = Follower(job.number, was_seen=is_in_slurm)
        self._start()

    def doubt(self, name: str) -> None:
        """Cancel a job that Slurm has taken or may yet take: nobody waits for it."""
        if self.queue.is_here:
            self._doubts[name] = asyncio.get_running_loop().time() + DOUBT_S
            self._start()

    def _start(self) -> None:
        if self._run is None:
            self._run = begin(self._look_out())
        self.hurry()

    def hurry(self) -> None:
        """Look soon: a job is new, or was cancelled."""
        self._hurry.set()

    async def close(self) -> None:
        """Look no more, after a last look for jobs that should not be there."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait({self._run})
        if self._doubts:
            await self._cancel_doubtful(await self.queue.look() or {})

    async def _look_out(self) -> None:
        while self._followers or self._doubts:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), LOOK_S)
                # Till then, Slurm may have done what it was asked for.
                await asyncio.sleep(SOON_S)
            self._hurry.clear()
            await self._look()
        self._run = None

    async def _look(self) -> None:
        for job in [job for job in self._followers if job.gone.is_set()]:
            del self._followers[job]
            self._silences.pop(job, None)
        silent = [job for job in self._followers if self._is_asked_for(job)]
        # Before the queue is looked at: a job may begin meanwhile.
        begun = [job for job in silent if job.has_begun]
        queue = await self.queue.look() if silent or self._doubts else None
        if queue is None:
            return
        await self._cancel_doubtful(queue)
        numbers = [job.number for job in silent if job.number is not None]
        missing = [number for number in numbers if number not in queue]
        ended = await self.queue.ended(missing)
        for job in silent:
            found = self._followers[job].judge(queue, ended)
            if found is not None and not job.has_begun:
                found = await self.queue.explain(found.number) or found
            if found is not None and not job.gone.is_set():
                logger.debug("Slurm job {} is over: {}", found.number, found.state)
                job.see_end(found.end(job.name), found.state)
        self._end_stuck(silent, queue)
        self._end_requeued(begun, queue)

    def _end_requeued(
        self, begun: Sequence[Job], queue: Mapping[str, QueuedJob]
    ) -> None:
        """Cancel jobs that wait again: a job begins only once."""
        for job in begun:
            found = queue.get(job.number or "")
            if found is not None and found.state in REQUEUED and not job.gone.is_set():
                job.cancel()
                text = f"Slurm job {found.number} was requeued"
                event = JobEvent(
                    job.name, "failed", text, is_killed=True, is_evicted=True
                )
                job.see_end(event, "CANCELLED")

    def _end_stuck(self, silent: Sequence[Job], queue: Mapping[str, QueuedJob]) -> None:
        """Cancel jobs that Slurm has taken, but would never start.

        Not at the first look: while Slurm itself starts, it does not know all accounts.
        """
        before, self._stuck = self._stuck, {}
        for job in silent:
            found = queue.get(job.number or "")
            if found is None or found.state != "PENDING" or job.gone.is_set():
                continue
            if never_starts(found.reason):
                self._stuck[job] = found.reason
                if before.get(job) == found.reason:
                    job.cancel()
                    why = f"Slurm will never start its job: {found.reason}"
                    event = JobEvent(job.name, "failed", why, is_stuck=True)
                    job.see_end(event, "CANCELLED")

    async def _cancel_doubtful(self, queue: Mapping[str, QueuedJob]) -> None:
        live = [job for job in queue.values() if not job.has_ended]
        found = {job.number for job in live if job.is_any_of(self._doubts)}
        await cancel([*found])
        now = asyncio.get_running_loop().time()
        self._doubts = {name: end for name, end in self._doubts.items() if now < end}

    def _is_asked_for(self, job: Job) -> bool:
        """Return whether a job is silent, and nobody else may report its end soon."""
        if not job.is_silent:
            self._silences.pop(job, None)
            return False
        self._silences[job] = self._silences.get(job, 0) + 1
        return not job.is_over or self._silences[job] > PATIENCE
