"""Ask Slurm about jobs that show no sign of life, and end those that are over.

The plugin that follows a job may learn of its end in a state that it does not know, or
never. Without these looks, the pool would wait for that worker forever.
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

#: Seconds in which Slurm may accept a job after sbatch has failed: it queues requests.
DOUBT_S = 600.0

#: For how many looks a job whose workers have ended is left to the plugin.
PATIENCE = 3


class SlurmWatch:
    """Watches the jobs of a run directory, of all its tasks."""

    def __init__(self, queue: Queue | None = None) -> None:
        """Ask `queue`."""
        self.queue = queue or Queue()
        self._followers: dict[Job, Follower] = {}
        self._silences: dict[Job, int] = {}
        #: The jobs that Slurm would never start, with the reason, as of the last look.
        self._stuck: dict[Job, str] = {}
        #: Our names of jobs that Slurm may have accepted, and until when to look.
        self._doubts: dict[str, float] = {}
        self._hurry = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    def watch(self, job: Job, *, is_in_slurm: bool) -> None:
        """Watch a job that has a number, of Slurm's if `is_in_slurm`, else perhaps."""
        if job.number is None or not self.queue.is_here:
            return
        self._followers[job] = Follower(job.number, was_seen=is_in_slurm)
        self._start()

    def doubt(self, name: str) -> None:
        """Cancel a job, as soon as Slurm has it, whose submission failed."""
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
        """Stop watching, after a last look for jobs that should not exist."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait({self._run})
        if self._doubts:
            await self._cancel_doubtful(await self.queue.look() or {})

    async def _look_out(self) -> None:
        while self._followers or self._doubts:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), LOOK_S)
                # Give Slurm time to do what it was asked for.
                await asyncio.sleep(SOON_S)
            self._hurry.clear()
            await self._look()
        self._run = None

    async def _look(self) -> None:
        for job in [job for job in self._followers if job.gone.is_set()]:
            del self._followers[job]
            self._silences.pop(job, None)
        silent = [job for job in self._followers if self._is_asked_for(job)]
        # Before the look: a job may begin in the meantime.
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
        """Cancel jobs that Slurm has accepted, but would never start.

        Two looks must agree: while Slurm itself starts, it does not know all accounts.
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
