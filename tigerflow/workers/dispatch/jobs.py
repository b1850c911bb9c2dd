"""Start the workers of one task as jobs: make mailboxes, submit, avoid bad nodes.

While the scheduler refuses jobs for now, it pauses and submits again. Nodes on which
workers could not start are avoided.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from tigerflow.errors import OutputDirectoryError
from tigerflow.log import logger
from tigerflow.rundir.layout import MAILBOX_INBOX, MAILBOXES, RunLayout, mailboxes
from tigerflow.settings import Settings
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.job_following import JobFollowing
from tigerflow.workers.dispatch.link import LaunchError, NoRoomError
from tigerflow.workers.dispatch.mailbox_link import MailboxLink
from tigerflow.workers.dispatch.mailbox_poller import MailboxPoller
from tigerflow.workers.dispatch.scheduler import JobEvent, Submit, SubmitError
from tigerflow.workers.dispatch.slurm_watch import SlurmWatch
from tigerflow.workers.dispatch.status import TaskStatus
from tigerflow.workers.dispatch.submitted import Job, SubmittedJobs
from tigerflow.workers.mailbox import Sender, make_mailbox, owner_of_others

#: Seconds in which workers are collected, to be submitted together by one Snakemake.
COLLECT_S = 0.05

#: Seconds to wait when the scheduler accepts no jobs for now: at first, at most.
PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0

#: Seconds in which no worker is submitted to a node on which one could not start.
AVOID_S = 3600.0

#: Seconds that a submission may take to end after its workers' grace time.
HANG_S = 30.0

_OVER = "the run has ended"


@dataclass(frozen=True)
class JobService:
    """What all tasks of a run directory share to have workers in jobs."""

    poller: MailboxPoller
    submit: Submit
    #: Done when the workers of an earlier service have left; none starts before.
    earlier: "asyncio.Future[None]"
    slurm_watch: SlurmWatch = field(default_factory=SlurmWatch)


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
        """Start workers of `task` in `run_dir` by `service`; show their `status`."""
        self._task = task
        self._run_dir = run_dir
        self._settings = settings
        self._poller = service.poller
        self._submit = service.submit
        self._earlier = service.earlier
        self._slurm_watch = service.slurm_watch
        self._following = JobFollowing(task.name, service.slurm_watch, self._take_word)
        self._status = status
        self._log = RunLayout(run_dir).task_log(task.name)
        self._wanted: list[asyncio.Future[MailboxLink]] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self._closing = False
        #: For how many seconds, and until when, nothing is submitted.
        self._pause_s = 0.0
        self._paused_until = 0.0
        #: Until when no worker is submitted to a node.
        self._avoided: dict[str, float] = {}

    def avoid(self, node: str) -> None:
        """Submit no worker to a node for a while."""
        if node:
            self._avoided[node] = asyncio.get_running_loop().time() + AVOID_S

    async def close(self) -> None:
        """Return when no job is left; their workers have been stopped before."""
        self._closing = True
        await self._status.close()
        for waiting in self._waiting:
            waiting.cancel()
        await self._following.close(self._settings.worker_grace + HANG_S)

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
                # Retry after a pause.
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
        # An error: workers of an earlier service may still run, unknown to us.
        waiting.result()

    async def _wait(self) -> None:
        await asyncio.shield(self._earlier)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0, self._paused_until - loop.time()))

    def _pause(self) -> None:
        """Submit nothing for a while, longer each time."""
        now = asyncio.get_running_loop().time()
        if now >= self._paused_until:
            self._pause_s = min(max(PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._paused_until = now + self._pause_s

    def _submit_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        if self._closing:
            # Nobody would follow their jobs to the end.
            for future in wanted:
                future.set_exception(LaunchError(_OVER))
            return
        size = self._task.workers_per_job
        shares = [wanted[i : i + size] for i in range(0, len(wanted), size)]
        jobs: list[Job] = []
        try:
            # One by one: if one cannot be made, those before it are discarded.
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
        self._following.start(SubmittedJobs(submission, jobs))

    def _nodes_to_avoid(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return sorted(node for node, until in self._avoided.items() if now < until)

    def _take_word(self, event: JobEvent) -> None:
        """Take what the scheduler says of a submission: a number, or a refusal."""
        if event.kind == "submitted":
            self._pause_s = 0.0
            return
        if not event.is_outage:
            # Too few nodes may be left: allow all again.
            self._avoided.clear()
            return
        self._pause()
        logger.warning(
            "[{}] cannot submit workers now: {}; retrying in {:.0f} s",
            *(self._task.name, event.text, self._pause_s),
        )

    def _reason(self, error: OSError | SubmitError) -> Exception:
        """Return the error for all who wait for a submission that has failed."""
        if isinstance(error, SubmitError):
            logger.warning("[{}] {}; retrying", self._task.name, error)
            self._pause()
            return error
        if (owner := owner_of_others(self._run_dir)) is not None:
            place = self._run_dir / MAILBOXES
            return LaunchError(
                f"{place} belongs to {owner}, whose TigerFlow was killed there; ask "
                f"{owner} to start it again, or remove that directory"
            )
        place = self._run_dir / mailboxes(self._task.name)
        return NoRoomError(OutputDirectoryError(place, error))

    def _make_job(self, workers: int) -> Job:
        name = secrets.token_hex(6)
        place = self._run_dir / mailboxes(self._task.name) / name
        job = Job(name, self._status, place, self._log, self._slurm_watch.hurry)
        try:
            for number in range(workers):
                mailbox = place / str(number)
                make_mailbox(mailbox)
                # The job looks for it as soon as it starts.
                sender = Sender(mailbox / MAILBOX_INBOX)
                sender.post(self._task)
                sender.flush()
                link = MailboxLink(mailbox, job, self._poller, self._settings)
                job.links.append(link)
        except OSError:
            job.discard()
            raise
        return job
