"""Starts workers as jobs of a scheduler."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from tigerflow.errors import OutputDirectoryError
from tigerflow.faults import begin, raise_in
from tigerflow.log import logger
from tigerflow.rundir.layout import MAILBOX_INBOX, MAILBOXES, RunLayout, mailboxes
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.earlier import cancel_job, note_number
from tigerflow.workers.dispatch.link import LaunchError, NoRoomError
from tigerflow.workers.dispatch.lookout import Lookout
from tigerflow.workers.dispatch.mailbox_link import MailboxLink
from tigerflow.workers.dispatch.postman import Postman
from tigerflow.workers.dispatch.scheduler import JobEvent, Submit, SubmitError
from tigerflow.workers.dispatch.slurm import AdoptedJob
from tigerflow.workers.dispatch.status import TaskStatus
from tigerflow.workers.dispatch.submitted import Batch, Job
from tigerflow.workers.mailbox import Sender, make_mailbox, owner_of_others

#: How long workers are collected that are submitted together, by one Snakemake.
COLLECT_S = 0.05

#: How long a scheduler that takes no jobs just now is left alone: at first, at most.
PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0

#: How long no worker is submitted to a node on which one could not start.
AVOID_S = 3600.0

#: How much longer than a worker's teardown a submission may take to end.
HANG_S = 30.0

_OVER = "the run has ended"


@dataclass(frozen=True)
class JobService:
    """What submits the jobs of a run directory, and reaches the workers in them."""

    postman: Postman
    submit: Submit
    #: Done when the workers of an earlier service have left; none starts before.
    earlier: "asyncio.Future[None]"
    lookout: Lookout = field(default_factory=Lookout)


class JobLauncher:
    """Starts workers of one task as jobs."""

    def __init__(
        self,
        task: WorkerTask,
        run_dir: Path,
        settings: Settings,
        service: JobService,
        status: TaskStatus,
    ) -> None:
        """Start workers of `task` in `run_dir` by `service`; tell `status` of them."""
        self._task = task
        self._run_dir = run_dir
        self._settings = settings
        self._postman = service.postman
        self._submit = service.submit
        self._earlier = service.earlier
        self._lookout = service.lookout
        self._status = status
        self._log = RunLayout(run_dir).task_log(task.name)
        self._wanted: list[asyncio.Future[MailboxLink]] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._batches: list[Batch] = []
        self._closing = False
        #: For how long, and until when, nothing is submitted.
        self._pause_s = 0.0
        self._paused_until = 0.0
        #: Until when no worker is submitted to a node.
        self._avoided: dict[str, float] = {}

    def avoid(self, node: str) -> None:
        """Submit no worker to a node for a while."""
        if node:
            self._avoided[node] = asyncio.get_running_loop().time() + AVOID_S

    async def close(self) -> None:
        """Return when no job is left; their workers have been told to stop."""
        self._closing = True
        await self._status.close()
        for waiting in self._waiting:
            waiting.cancel()
        for batch in self._batches:
            batch.is_closing = True
            batch.cancel_idle()
        # A submission may hang for good at its end; its jobs are cancelled then.
        patience_s = self._settings.worker_grace + HANG_S
        if not await self._followers_end(patience_s):
            for batch in self._batches:
                logger.warning("[{}] a submission hangs; it is killed", self._task.name)
                batch.submission.kill()
            await self._followers_end()

    async def _followers_end(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of all submissions; tell whether that has come."""
        loop = asyncio.get_running_loop()
        end = None if timeout_s is None else loop.time() + timeout_s
        # One that fails may leave another, of a job that is adopted.
        while self._followers:
            left_s = None if end is None else end - loop.time()
            if left_s is not None and left_s <= 0:
                return False
            await asyncio.wait(self._followers, timeout=left_s)
        return True

    async def launch(self) -> MailboxLink:
        """Submit a worker, together with others that are asked for at the same time.

        Raises:
            LaunchError: its mailbox cannot be made, or the launcher is closing.
        """
        while True:
            await self._until_free()
            loop = asyncio.get_running_loop()
            future: asyncio.Future[MailboxLink] = loop.create_future()
            if not self._wanted:
                loop.call_later(COLLECT_S, self._submit_wanted)
            self._wanted.append(future)
            with contextlib.suppress(SubmitError):
                # After a pause, it is tried again.
                return await future

    async def _until_free(self) -> None:
        """Return when workers may be submitted."""
        waiting = asyncio.create_task(self._wait())
        self._waiting.add(waiting)
        if self._closing:
            waiting.cancel()
        await asyncio.wait({waiting})
        self._waiting.discard(waiting)
        if waiting.cancelled():
            raise LaunchError(_OVER)
        # Else workers of an earlier service may be there, of which nobody knows.
        waiting.result()

    async def _wait(self) -> None:
        await asyncio.shield(self._earlier)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0, self._paused_until - loop.time()))

    def _pause(self) -> None:
        """Submit nothing for a while, each time for longer."""
        now = asyncio.get_running_loop().time()
        if now >= self._paused_until:
            self._pause_s = min(max(PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._paused_until = now + self._pause_s

    def _submit_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        if self._closing:
            # Nobody would see these to their end.
            for future in wanted:
                future.set_exception(LaunchError(_OVER))
            return
        size = self._task.workers_per_job
        shares = [wanted[i : i + size] for i in range(0, len(wanted), size)]
        jobs: list[Job] = []
        try:
            # One by one: those that are made are discarded when another cannot be.
            jobs.extend(self._make_job(len(share)) for share in shares)
            names = [job.name for job in jobs]
            submission = self._submit(self._task.name, names, self._nodes_to_avoid())
        except (OSError, SubmitError) as error:
            for job in jobs:
                job.discard()
            reason = self._reason(error)
            for future in wanted:
                future.set_exception(reason)
            return
        for share, job in zip(shares, jobs, strict=True):
            for future, link in zip(share, job.links, strict=True):
                future.set_result(link)
        self._start_following(Batch(submission, jobs))

    def _start_following(self, batch: Batch) -> None:
        self._batches.append(batch)
        follower = begin(self._follow(batch))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    def _nodes_to_avoid(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return sorted(node for node, until in self._avoided.items() if now < until)

    def _reason(self, error: OSError | SubmitError) -> Exception:
        """Return what is said to all who wait for a submission that has failed."""
        if isinstance(error, SubmitError):
            logger.warning("[{}] {}; it is tried again", self._task.name, error)
            self._pause()
            return error
        if (owner := owner_of_others(self._run_dir)) is not None:
            place = self._run_dir / MAILBOXES
            return LaunchError(
                f"{place} belongs to {owner}, whose TigerFlow was killed there; have "
                f"{owner} start it once more, or remove that directory"
            )
        place = self._run_dir / mailboxes(self._task.name)
        return NoRoomError(OutputDirectoryError(place, error))

    def _make_job(self, workers: int) -> Job:
        name = secrets.token_hex(6)
        place = self._run_dir / mailboxes(self._task.name) / name
        job = Job(name, self._status, place, self._log, self._lookout.hurry)
        try:
            for number in range(workers):
                mailbox = place / str(number)
                make_mailbox(mailbox)
                # The job looks for it as soon as it starts.
                sender = Sender(mailbox / MAILBOX_INBOX)
                sender.post(self._task)
                sender.flush()
                link = MailboxLink(mailbox, job, self._postman, self._settings)
                job.links.append(link)
        except OSError:
            job.discard()
            raise
        return job

    async def _follow(self, batch: Batch) -> None:
        try:
            await self._hear(batch)
        except Exception as error:  # noqa: BLE001 -- nobody may wait for its jobs for ever
            raise_in(asyncio.get_running_loop(), error)
            text = f"internal error: {error!r}"
            for job in batch.jobs:
                job.take(JobEvent(job.name, "failed", text, is_killed=True))
        self._batches.remove(batch)
        for job in batch.jobs:
            if any(not link.ending.done() for link in job.links):
                # Nobody follows it any more.
                await cancel_job(job.place)
            await asyncio.gather(*(link.collected.wait() for link in job.links))
            await in_thread(job.discard)

    async def _hear(self, batch: Batch) -> None:
        """Take what is said of the jobs of a submission, until that ends."""
        by_name = {job.name: job for job in batch.jobs}
        async for event in batch.submission.events():
            for job in [by_name[event.job]] if event.job else [*batch.jobs]:
                await self._take(batch, job, event)

    async def _take(self, batch: Batch, job: Job, event: JobEvent) -> None:
        """Take what is said of a job, and what Slurm has to say to that."""
        if event.kind == "submitted":
            self._pause_s = 0.0
            job.take(event)
            self._lookout.watch(job, is_in_slurm=event.is_in_slurm)
            return
        if job.number is None and not job.gone.is_set():
            if await self._adopt(batch, job, event):
                return
            self._see_refusal(event)
        elif event.kind == "failed" and not (job.has_begun or event.node):
            event = await self._explained(job, event)
        job.take(event)

    async def _adopt(self, batch: Batch, job: Job, event: JobEvent) -> bool:
        """Go on with a job that Slurm has taken although its submission failed."""
        queue = self._lookout.queue
        found = await queue.find(job.name) if queue.is_here else None
        if found is None:
            self._lookout.doubt(job.name)
            return False
        logger.warning(
            "[{}] sbatch has failed, but Slurm has taken job {}: {}",
            *(self._task.name, found.number, event.text),
        )
        await in_thread(note_number, job.place, found.number)
        batch.jobs.remove(job)
        submission = AdoptedJob(queue, job.name, found.number)
        adopted = Batch(submission, [job], is_closing=batch.is_closing)
        self._start_following(adopted)
        adopted.cancel_idle()
        return True

    def _see_refusal(self, event: JobEvent) -> None:
        if not event.is_outage:
            # Too few nodes may be left.
            self._avoided.clear()
            return
        self._pause()
        logger.warning(
            "[{}] no worker can be submitted just now: {}; tried again in {:.0f} s",
            *(self._task.name, event.text, self._pause_s),
        )

    async def _explained(self, job: Job, event: JobEvent) -> JobEvent:
        """Add to the end of a job that never began where that was, and why."""
        told = await self._lookout.queue.explain(job.number or "")
        if told is None:
            return event
        return replace(event, node=told.node, text=f"{event.text}{told.hint}")
