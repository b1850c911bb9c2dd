"""Follow the jobs of one task from their submission until they are over.

A job whose submission failed, but that Slurm has, is adopted; see `slurm_follow`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from tigerflow.faults import begin, raise_in
from tigerflow.log import logger
from tigerflow.shortage import in_thread
from tigerflow.workers.dispatch.earlier import cancel_job, note_number
from tigerflow.workers.dispatch.scheduler import JobEvent
from tigerflow.workers.dispatch.slurm_follow import AdoptedJob
from tigerflow.workers.dispatch.slurm_watch import SlurmWatch
from tigerflow.workers.dispatch.submitted import Job, SubmittedJobs


class JobFollowing:
    """Follows what schedulers report on the jobs of one task."""

    def __init__(
        self, task: str, slurm_watch: SlurmWatch, on_word: Callable[[JobEvent], None]
    ) -> None:
        """Follow jobs of the task of that name; none is submitted yet.

        `on_word` is called with the first event of each job: that it was submitted, or
        why it was not.
        """
        self._task = task
        self._slurm_watch = slurm_watch
        self._on_word = on_word
        self._followers: set[asyncio.Task[None]] = set()
        self._submitted: list[SubmittedJobs] = []

    def start(self, submitted: SubmittedJobs) -> None:
        """Follow jobs until their submission has ended."""
        self._submitted.append(submitted)
        follower = begin(self._follow(submitted))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def close(self, patience_s: float) -> None:
        """Return when no job is left; their workers have been stopped before.

        A submission that takes longer than `patience_s` seconds is killed, since it may
        hang forever. Then its jobs are cancelled.
        """
        for submitted in self._submitted:
            submitted.is_closing = True
            submitted.cancel_idle()
        if not await self._followers_end(patience_s):
            for submitted in self._submitted:
                logger.warning("[{}] killing a submission that hangs", self._task)
                submitted.submission.kill()
            await self._followers_end()

    async def _followers_end(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of all submissions; return whether it has come."""
        loop = asyncio.get_running_loop()
        end = None if timeout_s is None else loop.time() + timeout_s
        # One that fails may be followed by another, for a job that is adopted.
        while self._followers:
            left_s = None if end is None else end - loop.time()
            if left_s is not None and left_s <= 0:
                return False
            await asyncio.wait(self._followers, timeout=left_s)
        return True

    async def _follow(self, submitted: SubmittedJobs) -> None:
        try:
            await self._hear(submitted)
        except Exception as error:  # noqa: BLE001 -- nobody may wait for its jobs forever
            raise_in(asyncio.get_running_loop(), error)
            text = f"internal error: {error!r}"
            for job in submitted.jobs:
                job.take(JobEvent(job.name, "failed", text, is_killed=True))
        self._submitted.remove(submitted)
        for job in submitted.jobs:
            if any(not link.ending.done() for link in job.links):
                # Nothing follows the job any more.
                await cancel_job(job.place)
            await asyncio.gather(*(link.collected.wait() for link in job.links))
            await in_thread(job.discard)

    async def _hear(self, submitted: SubmittedJobs) -> None:
        """Take the events of a submission's jobs, until the submission ends."""
        by_name = {job.name: job for job in submitted.jobs}
        async for event in submitted.submission.events():
            for job in [by_name[event.job]] if event.job else [*submitted.jobs]:
                await self._take(submitted, job, event)

    async def _take(self, submitted: SubmittedJobs, job: Job, event: JobEvent) -> None:
        """Take an event of a job, and ask Slurm for more where that helps."""
        if event.kind == "submitted":
            self._on_word(event)
            job.take(event)
            self._slurm_watch.watch(job, is_in_slurm=event.is_in_slurm)
            return
        if job.number is None and not job.gone.is_set():
            if await self._adopt(submitted, job, event):
                return
            self._on_word(event)
        elif event.kind == "failed" and not (job.has_begun or event.node):
            event = await self._explained(job, event)
        job.take(event)

    async def _adopt(self, submitted: SubmittedJobs, job: Job, event: JobEvent) -> bool:
        """Follow a job that Slurm has accepted although its submission failed."""
        queue = self._slurm_watch.queue
        found = await queue.find(job.name) if queue.is_here else None
        if found is None:
            self._slurm_watch.doubt(job.name)
            return False
        logger.warning(
            "[{}] sbatch failed, but Slurm accepted job {}: {}",
            *(self._task, found.number, event.text),
        )
        await in_thread(note_number, job.place, found.number)
        submitted.jobs.remove(job)
        submission = AdoptedJob(queue, job.name, found.number)
        adopted = SubmittedJobs(submission, [job], is_closing=submitted.is_closing)
        self.start(adopted)
        adopted.cancel_idle()
        return True

    async def _explained(self, job: Job, event: JobEvent) -> JobEvent:
        """Add where and why a job ended that never began."""
        found = await self._slurm_watch.queue.explain(job.number or "")
        if found is None:
            return event
        return replace(event, node=found.node, text=f"{event.text}{found.hint}")
