"""Workers as jobs of a scheduler: submit them, and reach them through mailboxes."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tigerflow.errors import OutputDirectoryError
from tigerflow.files import remove_temporaries_of
from tigerflow.layout import (
    MAILBOX_INBOX,
    MAILBOX_LOG,
    STATE,
    RunLayout,
    mailboxes,
)
from tigerflow.settings import Settings
from tigerflow.workers.link import Ending, LaunchError
from tigerflow.workers.mailbox import Sender, make_mailbox
from tigerflow.workers.postman import Delivery, Postman, Round
from tigerflow.workers.protocol import Left, Message, Started, Stop, WorkerTask
from tigerflow.workers.status import TaskStatus

#: How often workers that are to end are looked at.
LOOK_S = 0.5

#: Where outputs go that are not kept.
_HIDDEN = STATE / "tasks"

#: How long a job may still be in the queue after its workers have ended.
QUEUE_S = 3.0


@dataclass(frozen=True)
class JobEvent:
    """What the scheduler, or Snakemake on its behalf, says of a job."""

    #: Our name of the job; empty for what concerns the submission as a whole.
    job: str
    #: `submitted`, `finished`, `failed`.
    kind: str
    #: The scheduler's number of a job that is submitted, its words on one that failed.
    text: str
    #: Whether a job that failed was ended from outside: cancelled, lost, out of time.
    is_killed: bool = False


class Submission(Protocol):
    """Some jobs on their way through the scheduler."""

    def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the jobs, until all have ended."""

    def cancel(self) -> None:
        """Cancel those of the jobs that have not ended."""


#: Submits jobs of a task, by our names of them.
Submit = Callable[[str, Sequence[str]], Submission]


class JobLauncher:
    """Starts workers of one task as jobs."""

    def __init__(
        self,
        task: WorkerTask,
        run_dir: Path,
        settings: Settings,
        postman: Postman,
        submit: Submit,
        status: TaskStatus,
    ) -> None:
        """Start workers of `task` in `run_dir`, jobs that `submit` submits.

        What becomes of them is noted in `status`.
        """
        self._task = task
        self._run_dir = run_dir
        self._settings = settings
        self._postman = postman
        self._submit = submit
        self._status = status
        self._log = RunLayout(run_dir).task_log(task.name)
        self._wanted: list[asyncio.Future[MailboxLink]] = []
        self._followers: set[asyncio.Task[None]] = set()
        self._earlier: asyncio.Task[None] | None = None
        self._batches: list[_Batch] = []

    async def close(self) -> None:
        """Return when no job is left; their workers have been told to stop."""
        await self._status.close()
        for batch in self._batches:
            batch.is_closing = True
            batch.cancel_idle()
        if self._followers:
            await asyncio.wait(self._followers)

    async def launch(self) -> "MailboxLink":
        """Submit a worker, together with others that are asked for at this moment.

        Raises:
            LaunchError: its mailbox cannot be made.
        """
        if self._earlier is None:
            self._earlier = asyncio.create_task(self._see_off_earlier())
        await asyncio.shield(self._earlier)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[MailboxLink] = loop.create_future()
        if not self._wanted:
            loop.call_soon(self._submit_wanted)
        self._wanted.append(future)
        return await future

    def _submit_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        size = self._task.workers_per_job
        shares = [wanted[i : i + size] for i in range(0, len(wanted), size)]
        try:
            jobs = [self._make_job(len(share)) for share in shares]
        except OSError as error:
            place = self._run_dir / mailboxes(self._task.name)
            reason = LaunchError(str(OutputDirectoryError(place, error)))
            for future in wanted:
                future.set_exception(reason)
            return
        for share, job in zip(shares, jobs, strict=True):
            for future, link in zip(share, job.links, strict=True):
                future.set_result(link)
        submission = self._submit(self._task.name, [job.name for job in jobs])
        batch = _Batch(submission, jobs)
        self._batches.append(batch)
        follower = asyncio.create_task(self._follow(batch))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    def _make_job(self, workers: int) -> "_Job":
        name = secrets.token_hex(6)
        job = _Job(name, self._status)
        place = self._run_dir / mailboxes(self._task.name) / name
        for number in range(workers):
            mailbox = place / str(number)
            make_mailbox(mailbox)
            link = MailboxLink(mailbox, job, self._postman, self._settings)
            # The job looks for it as soon as it starts.
            link.send_now(self._task)
            job.links.append(link)
        return job

    async def _follow(self, batch: "_Batch") -> None:
        by_name = {job.name: job for job in batch.jobs}
        async for event in batch.submission.events():
            by_name[event.job].take(event)
        self._batches.remove(batch)
        for job in batch.jobs:
            job.take(JobEvent(job.name, "finished", ""))
        for job in batch.jobs:
            await asyncio.wait([link.ending for link in job.links])
            place = job.links[0].mailbox.parent
            await asyncio.to_thread(_put_away, place, self._log)

    async def _see_off_earlier(self) -> None:
        """Wait until no worker of an earlier service is at work."""
        place = self._run_dir / mailboxes(self._task.name)
        earlier = await asyncio.to_thread(_directories, place)
        # A pipeline's results; those of a task by itself are in the run directory.
        names = (".", self._task.name, _HIDDEN / self._task.name)
        places = [self._run_dir / each for each in names]
        see_offs = (
            _see_off(job, places, self._settings.worker_lost_timeout) for job in earlier
        )
        await asyncio.gather(*see_offs)
        for job in earlier:
            await asyncio.to_thread(_put_away, job, self._log)


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
    links: list["MailboxLink"] = field(default_factory=list)
    batch: _Batch | None = None
    #: Set when it is in the queue no more.
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: JobEvent) -> None:
        match event.kind:
            case "submitted":
                self.status.submitted(self.name, event.text)
            case "failed" | "finished":
                self.gone.set()
                self.status.job_ended(self.name)
                for link in self.links:
                    link.job_ended(event)
            case _:
                pass


class MailboxLink:
    """A worker in a job; see `Link`."""

    pid = None
    log_start = 0

    def __init__(
        self, mailbox: Path, job: _Job, postman: Postman, settings: Settings
    ) -> None:
        """Talk through `mailbox`, which is there."""
        self.mailbox = mailbox
        self.log = mailbox / MAILBOX_LOG
        self._job = job
        self._postman = postman
        self._settings = settings
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._heard = time.monotonic()
        self._started: Started | None = None
        self._left: Left | None = None
        self._round = Round(mailbox, self._deliver, lambda: True)
        postman.add(self._round)

    def send(self, message: Message) -> None:
        """Send a message; nobody listening any more is no error."""
        self._round.post(message)
        self._postman.hurry()

    def send_now(self, message: Message) -> None:
        """Send a message before this returns.

        Raises:
            OSError: it cannot be stored.
        """
        sender = Sender(self.mailbox / MAILBOX_INBOX)
        sender.post(message)
        sender.flush()

    @property
    def is_idle(self) -> bool:
        """Whether its process has not started, or has ended."""
        return self._started is None or self.ending.done()

    async def receive(self) -> AsyncIterator[Message]:
        """Yield what the worker says, until it can say no more."""
        while (message := await self._messages.get()) is not None:
            yield message

    def close(self) -> None:
        """Send no more: it gives up what it has in hand, tears down and ends."""
        self.send(Stop())

    def kill(self) -> None:
        """Cancel its job, and with it the others in that."""
        self.send(Stop())
        if self._job.batch is not None:
            self._job.batch.submission.cancel()

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

    def job_ended(self, event: JobEvent) -> None:
        """Note that the job is no more; what its worker said last may be on its way."""
        if event.kind == "failed" and self._started is None:
            how = f"did not start: {event.text}" if event.text else "did not start"
        else:
            how = f"was lost: {event.text}" if event.text else "was lost"
        self._end(Ending(how, is_killed=event.is_killed), after_s=1.0)

    def _deliver(self, delivery: Delivery) -> None:
        now = time.monotonic()
        for message in delivery.messages:
            self._heard = now
            match message:
                case Started():
                    self._started = message
                    self._job.status.worker_started(self._job.name)
                case Left():
                    self._left = message
                case _:
                    pass
            self._messages.put_nowait(message)
        if delivery.exit_code is not None:
            self._end(_ending(delivery.exit_code))
        elif self._started is not None and self._left is None:
            timeout_s = self._settings.worker_lost_timeout
            if now - self._heard > timeout_s:
                how = f"has shown no sign of life for {timeout_s} s"
                self._end(Ending(how, is_killed=True))

    def _end(self, ending: Ending, after_s: float = 0) -> None:
        def settle() -> None:
            if not self.ending.done():
                self._postman.remove(self._round)
                self._messages.put_nowait(None)
                self.ending.set_result(ending)
                if self._started is not None:
                    self._job.status.worker_ended()
                if self._job.batch is not None:
                    self._job.batch.cancel_idle()

        asyncio.get_running_loop().call_later(after_s, settle)


def _ending(code: int) -> Ending:
    if code >= 0:
        return Ending(f"ended with exit code {code}", is_killed=False)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return Ending(f"was killed by signal {-code} ({name})", is_killed=True)
    return Ending(f"was killed by signal {-code}", is_killed=True)


async def _see_off(job: Path, places: Sequence[Path], lost_s: float) -> None:
    """Stop the workers of a job that nobody follows any more, and wait for their end.

    Each ends within its grace time, or when it misses the pulse; it is taken for dead
    when it says nothing for longer than both. What it left half written goes.
    """
    strangers = [_Stranger(path) for path in await asyncio.to_thread(_directories, job)]
    number, cancelled = "", False
    heard = time.monotonic()
    while any(not stranger.is_gone for stranger in strangers):
        if not number:
            # It may be on its way into the queue just now.
            number = await asyncio.to_thread(_read, job / "number")
            cancelled = await _scancel(number)
        news = [await asyncio.to_thread(stranger.look) for stranger in strangers]
        if any(news):
            heard = time.monotonic()
        never_began = all(stranger.started is None for stranger in strangers)
        still_s = time.monotonic() - heard
        if (cancelled and never_began) or still_s > 2 * lost_s:
            break
        await asyncio.sleep(LOOK_S)
    for stranger in strangers:
        if (who := stranger.started) is not None:
            for place in places:
                await asyncio.to_thread(remove_temporaries_of, place, who.pid, who.host)


def _put_away(job: Path, log: Path) -> None:
    """Remove what a job leaves; what its workers said goes to the task's log."""
    with contextlib.suppress(OSError), log.open("ab") as target:
        for said in sorted(job.glob(f"*/{MAILBOX_LOG}")):
            with said.open("rb") as source:
                shutil.copyfileobj(source, target)
    shutil.rmtree(job, ignore_errors=True)


class _Stranger:
    """A worker of an earlier service, which is told to stop."""

    def __init__(self, mailbox: Path) -> None:
        self.started: Started | None = None
        self.is_gone = False
        self._round = Round(mailbox, lambda _: None, lambda: True)
        self._round.post(Stop())

    def look(self) -> bool:
        """Look into its mailbox; tell whether it has said anything."""
        delivery = self._round.exchange()
        for message in delivery.messages:
            if isinstance(message, Started):
                self.started = message
            self.is_gone = self.is_gone or isinstance(message, Left)
        self.is_gone = self.is_gone or delivery.exit_code is not None
        return bool(delivery.messages)


def _directories(place: Path) -> list[Path]:
    return [path for path in place.glob("*") if path.is_dir()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


async def _scancel(number: str) -> bool:
    """Cancel a job of Slurm's; tell whether that was possible."""
    if not number.isdigit() or shutil.which("scancel") is None:
        return False
    process = await asyncio.create_subprocess_exec(
        *("scancel", number),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0
