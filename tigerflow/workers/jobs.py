"""Workers as jobs of a scheduler: submit them, and reach them through mailboxes."""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tigerflow.errors import OutputDirectoryError
from tigerflow.files import remove_temporaries_of
from tigerflow.layout import MAILBOX_INBOX, MAILBOX_LOG, RunLayout, mailboxes
from tigerflow.log import logger
from tigerflow.settings import Settings
from tigerflow.workers.earlier import cancel_job
from tigerflow.workers.link import Ending, LaunchError, NoRoomError, ending_of
from tigerflow.workers.mailbox import Sender, keep_prints, make_mailbox
from tigerflow.workers.postman import Delivery, Postman, Round
from tigerflow.workers.protocol import (
    Answer,
    FileRequest,
    Message,
    Ready,
    SetupFailed,
    Started,
    Stop,
    WorkerTask,
)
from tigerflow.workers.status import TaskStatus

#: How long workers are collected that are submitted together, by one Snakemake.
COLLECT_S = 0.05

#: How long a job may still be in the queue after its workers have ended.
QUEUE_S = 3.0

#: How long a scheduler that takes no jobs just now is left alone: at first, at most.
PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0

#: How long a worker on another host may take to learn that its time is over.
NOTICE_S = 5.0


class SubmitError(Exception):
    """Nothing can be submitted just now."""


@dataclass(frozen=True)
class JobEvent:
    """What the scheduler, or Snakemake on its behalf, says of a job."""

    #: Our name of the job; empty for the submission as a whole.
    job: str
    #: `submitted`, `finished`, `failed`; `ended` for the submission.
    kind: str
    #: The scheduler's number of a job that is submitted, its words on one that failed.
    text: str
    #: Whether what failed was ended from outside: cancelled, lost, out of time.
    is_killed: bool = False
    #: Whether the scheduler takes no jobs just now.
    is_outage: bool = False


class Submission(Protocol):
    """Some jobs on their way through the scheduler."""

    def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the jobs, until all have ended; last is `ended`."""

    def cancel(self, jobs: Sequence[str] = ()) -> None:
        """Cancel these jobs, or all, unless they have ended."""


#: Submits jobs of a task, by our names of them; may raise SubmitError.
Submit = Callable[[str, Sequence[str]], Submission]


@dataclass(frozen=True)
class JobService:
    """What submits the jobs of a run directory, and reaches the workers in them."""

    postman: Postman
    submit: Submit
    #: Done when the workers of an earlier service have left; none starts before.
    earlier: "asyncio.Future[None]"


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
        self._status = status
        self._log = RunLayout(run_dir).task_log(task.name)
        self._wanted: list[asyncio.Future[MailboxLink]] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._batches: list[_Batch] = []
        self._closing = False
        #: For how long, and until when, nothing is submitted.
        self._pause_s = 0.0
        self._paused_until = 0.0

    async def close(self) -> None:
        """Return when no job is left; their workers have been told to stop."""
        self._closing = True
        await self._status.close()
        for waiting in self._waiting:
            waiting.cancel()
        for batch in self._batches:
            batch.is_closing = True
            batch.cancel_idle()
        if self._followers:
            await asyncio.wait(self._followers)

    async def launch(self) -> "MailboxLink":
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
            try:
                return await future
            except SubmitError as error:
                logger.warning("[{}] {}; it is tried again", self._task.name, error)
                self._pause()

    async def _until_free(self) -> None:
        """Return when workers may be submitted."""
        waiting = asyncio.create_task(self._wait())
        self._waiting.add(waiting)
        if self._closing:
            waiting.cancel()
        await asyncio.wait({waiting})
        self._waiting.discard(waiting)
        if waiting.cancelled():
            msg = "the run has ended"
            raise LaunchError(msg)

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
        size = self._task.workers_per_job
        shares = [wanted[i : i + size] for i in range(0, len(wanted), size)]
        jobs: list[_Job] = []
        try:
            # One by one: those that are made are discarded when another cannot be.
            jobs.extend(self._make_job(len(share)) for share in shares)
            submission = self._submit(self._task.name, [job.name for job in jobs])
        except (OSError, SubmitError) as error:
            for job in jobs:
                job.discard()
            for future in wanted:
                future.set_exception(self._reason(error))
            return
        for share, job in zip(shares, jobs, strict=True):
            for future, link in zip(share, job.links, strict=True):
                future.set_result(link)
        batch = _Batch(submission, jobs)
        self._batches.append(batch)
        follower = asyncio.create_task(self._follow(batch))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    def _reason(self, error: Exception) -> Exception:
        if not isinstance(error, OSError):
            return error
        place = self._run_dir / mailboxes(self._task.name)
        return NoRoomError(str(OutputDirectoryError(place, error)))

    def _make_job(self, workers: int) -> "_Job":
        name = secrets.token_hex(6)
        place = self._run_dir / mailboxes(self._task.name) / name
        job = _Job(name, self._status, place, self._log)
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

    async def _follow(self, batch: "_Batch") -> None:
        by_name = {job.name: job for job in batch.jobs}
        async for event in batch.submission.events():
            if event.is_outage:
                self._pause()
                logger.warning(
                    "[{}] no worker can be submitted just now: {}; tried again in "
                    "{:.0f} s",
                    *(self._task.name, event.text, self._pause_s),
                )
            elif event.kind == "submitted":
                self._pause_s = 0.0
            for job in [by_name[event.job]] if event.job else batch.jobs:
                job.take(event)
        self._batches.remove(batch)
        for job in batch.jobs:
            if any(not link.ending.done() for link in job.links):
                # Nobody follows it any more.
                await cancel_job(job.place)
            await asyncio.gather(*(link.collected.wait() for link in job.links))
            await asyncio.to_thread(job.discard)


@dataclass(eq=False)
class _Batch:
    """Jobs that were submitted together."""

    submission: Submission
    jobs: Sequence["_Job"]
    #: Whether nobody needs to know any more how the jobs end.
    is_closing: bool = False

    def __post_init__(self) -> None:
        for job in self.jobs:
            job.batch = self

    def cancel_idle(self) -> None:
        """Cancel the jobs when they are to end, and none has a worker any more."""
        links = [link for job in self.jobs for link in job.links]
        if self.is_closing and all(link.is_idle for link in links):
            self.submission.cancel()


@dataclass(eq=False)
class _Job:
    """One job, and the workers in it."""

    name: str
    status: TaskStatus
    place: Path
    #: Where the prints of the task's workers are collected.
    log: Path
    links: list["MailboxLink"] = field(default_factory=list)
    batch: _Batch | None = None
    #: Set when it is in the queue no more.
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: JobEvent) -> None:
        match event.kind:
            case "submitted":
                self.status.submitted(self.name, event.text)
                self.cancel_unneeded()
            case "failed" | "finished" | "ended" if not self.gone.is_set():
                self.gone.set()
                self.status.job_ended(self.name)
                for link in self.links:
                    link.job_ended(event)
            case _:
                pass

    def cancel(self) -> None:
        """Cancel it, unless it has ended."""
        if self.batch is not None and not self.gone.is_set():
            self.batch.submission.cancel([self.name])

    def cancel_unneeded(self) -> None:
        """Cancel it when it has not begun, and nobody wants its workers any more."""
        has_begun = any(link.has_started for link in self.links)
        if not has_begun and all(link.is_closed for link in self.links):
            self.cancel()

    def discard(self) -> None:
        """Remove its mailboxes."""
        for link in self.links:
            link.forget()
        shutil.rmtree(self.place, ignore_errors=True)


class MailboxLink:
    """A worker in a job; see `Link`."""

    pid = None
    log_start = 0
    notice_s = NOTICE_S

    def __init__(
        self, mailbox: Path, job: _Job, postman: Postman, settings: Settings
    ) -> None:
        """Talk through `mailbox`, which is there."""
        self.mailbox = mailbox
        self.log = mailbox / MAILBOX_LOG
        self.is_closed = False
        self._job = job
        self._postman = postman
        self._settings = settings
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._started: Started | None = None
        #: How it ended, by what is said of its job; itself it may still say more.
        self._lost: Ending | None = None
        #: Set when it has ended, and its prints are in the task's log.
        self.collected = asyncio.Event()
        self._collecting: asyncio.Task[None] | None = None
        #: Answers that are waited for, that to its start included.
        self._awaited = 0
        self._round = Round(mailbox, self._deliver, lambda: self._awaited > 0)
        postman.add(self._round)

    def send(self, message: Message) -> None:
        """Send a message; nobody listening any more is no error."""
        self._awaited += isinstance(message, FileRequest)
        self._round.post(message)
        self._postman.hurry()

    @property
    def has_started(self) -> bool:
        """Whether its process has started."""
        return self._started is not None

    @property
    def is_idle(self) -> bool:
        """Whether its process has not started, or has ended."""
        return not self.has_started or self.ending.done()

    async def receive(self) -> AsyncIterator[Message]:
        """Yield what the worker says, until it can say no more."""
        while (message := await self._messages.get()) is not None:
            yield message

    def close(self) -> None:
        """Send no more: it gives up what it has in hand, tears down and ends."""
        self.is_closed = True
        self.send(Stop())
        self._job.cancel_unneeded()

    def kill(self) -> None:
        """Cancel its job, and with it the others in that."""
        self.is_closed = True
        self.send(Stop())
        self._job.cancel()

    async def wait(self) -> Ending:
        """Return when the process has ended and all it said was received."""
        return await self.ending

    async def gone(self) -> None:
        """Return when its job is in the queue no more, as far as that is known."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._job.gone.wait(), QUEUE_S)

    def remove_temporaries(self, directory: Path) -> None:
        """Remove what it left half written, once it has ended."""
        if self._started is not None:
            remove_temporaries_of(directory, self._started.pid, self._started.host)

    def forget(self) -> None:
        """Look into its mailbox no more."""
        self._postman.remove(self._round)

    def job_ended(self, event: JobEvent) -> None:
        """Note that the job is no more.

        What its worker said last may be on its way. And the worker may live: on a node
        that has lost touch with the others, or tearing down.
        """
        text = f": {event.text}" if event.text else ""
        self._lost = Ending(f"was lost{text}", is_killed=event.is_killed)
        if self.has_started:
            self.send(Stop())
            return
        ending = Ending(
            event.text or "its job ended at once",
            is_killed=event.is_killed,
            is_outage=event.is_outage,
            has_started=False,
        )
        asyncio.get_running_loop().call_later(1.0, self._end_unborn, ending)

    def _end_unborn(self, ending: Ending) -> None:
        if not self.has_started:
            self._end(ending)

    def _deliver(self, delivery: Delivery) -> None:
        for message in delivery.messages:
            match message:
                case Started():
                    self._started = message
                    self._awaited += 1
                    self._job.status.worker_started(self._job.name)
                case Answer() | Ready() | SetupFailed():
                    self._awaited -= 1
                case _:
                    pass
            self._messages.put_nowait(message)
        if delivery.exit_code is not None:
            self._end(ending_of(delivery.exit_code))
        elif self.has_started and delivery.still_s > self._patience_s:
            timeout_s = self._settings.worker_lost_timeout
            how = f"has shown no sign of life for {timeout_s} s"
            self._end(self._lost or Ending(how, is_killed=True))

    @property
    def _patience_s(self) -> float:
        """How long its pulse may stand still."""
        timeout_s = self._settings.worker_lost_timeout
        return timeout_s if self._lost is None else timeout_s / 2

    def _end(self, ending: Ending) -> None:
        if self.ending.done():
            return
        self.forget()
        self._messages.put_nowait(None)
        # Not before what it said has been taken.
        asyncio.get_running_loop().call_soon(self._settle, ending)

    async def _collect(self) -> None:
        await asyncio.to_thread(keep_prints, self.mailbox, self._job.log)
        self.collected.set()

    def _settle(self, ending: Ending) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)
            if self.has_started:
                self._job.status.worker_ended()
            self._collecting = asyncio.create_task(self._collect())
            if self._job.batch is not None:
                self._job.batch.cancel_idle()
