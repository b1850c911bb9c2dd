"""A worker in a job, as its pool sees it: its messages, and whether it counts as dead.

It is dead when its job's process has noted its exit, or when its pulse stands still for
too long (`TIGERFLOW_WORKER_LOST_TIMEOUT`; half of that once its job is over).
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tigerflow.faults import begin
from tigerflow.files import remove_temporaries_of
from tigerflow.rundir.layout import MAILBOX_LOG
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.workers.dispatch.link import Ending, ending_of
from tigerflow.workers.dispatch.mailbox_poller import (
    Delivery,
    MailboxPoller,
    PolledMailbox,
)
from tigerflow.workers.dispatch.scheduler import JobEvent
from tigerflow.workers.mailbox import keep_prints
from tigerflow.workers.protocol import (
    WARNS,
    Answer,
    FileRequest,
    HandedBack,
    Message,
    Ready,
    SetupFailed,
    Started,
    Stop,
)

#: Seconds that a job may still be in the queue after its workers have ended.
QUEUE_S = 3.0

#: Seconds that a worker on another host may take to learn that it is to end.
NOTICE_S = 5.0

#: Seconds until the first message is seen of a worker whose job has ended.
FIRST_WORD_S = 1.0


class Allocation(Protocol):
    """The job that a worker is in."""

    @property
    def log(self) -> Path:
        """Where the prints of the task's workers are collected."""

    @property
    def number(self) -> str | None:
        """The scheduler's number, once it has taken the job."""

    @property
    def gone(self) -> asyncio.Event:
        """Set when it is no longer in the queue."""

    def worker_started(self) -> None:
        """Note that a worker in it runs."""

    def worker_ended(self, *, has_started: bool) -> None:
        """Note that a worker in it has ended, or never comes."""

    def hurry(self) -> None:
        """Have the scheduler asked about it soon."""

    def cancel(self) -> None:
        """Cancel it, unless it has ended."""

    def cancel_unneeded(self) -> None:
        """Cancel it if it has not begun and its workers are no longer needed."""


class MailboxLink:
    """A worker in a job; see `Link`."""

    pid = None
    log_start = 0
    notice_s = NOTICE_S

    def __init__(
        self, mailbox: Path, job: Allocation, poller: MailboxPoller, settings: Settings
    ) -> None:
        """Talk through `mailbox`, which exists."""
        self.mailbox = mailbox
        self.log = mailbox / MAILBOX_LOG
        self.is_stopped = False
        #: Whether its pulse has not changed for so long that it may be dead.
        self.is_quiet = False
        self._job = job
        self._poller = poller
        self._settings = settings
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._started: Started | None = None
        #: How it ended, if its job is over; messages of its own may still come.
        self._lost: Ending | None = None
        #: Set when it has ended, and its prints are in the task's log.
        self.collected = asyncio.Event()
        self._collecting: asyncio.Task[None] | None = None
        #: How many answers are expected, that to its start included.
        self._awaited = 0
        self._polled = PolledMailbox(
            mailbox,
            self._deliver,
            lambda: self._awaited > 0,
            settings.worker_lost_timeout,
        )
        poller.add(self._polled)

    def send(self, message: Message) -> None:
        """Send a message; no error if the worker has ended."""
        self._awaited += isinstance(message, FileRequest)
        self._polled.post(message)
        self._poller.hurry()

    @property
    def has_started(self) -> bool:
        """Whether its process has started."""
        return self._started is not None

    @property
    def is_idle(self) -> bool:
        """Whether its process has not started, or has ended."""
        return not self.has_started or self.ending.done()

    async def receive(self) -> AsyncIterator[Message]:
        """Yield the worker's messages, until there can be no more."""
        while (message := await self._messages.get()) is not None:
            yield message

    def stop(self) -> None:
        """Have it give up its files, tear down and end."""
        self.is_stopped = True
        self.send(Stop())
        self._job.cancel_unneeded()

    def kill(self) -> None:
        """Cancel its job, and with it the other workers in the job."""
        self.is_stopped = True
        self.send(Stop())
        self._job.cancel()

    async def wait(self) -> Ending:
        """Return when the process has ended and all its messages were received."""
        return await self.ending

    async def gone(self) -> None:
        """Return when its job has left the queue, or soon if that is not reported."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._job.gone.wait(), QUEUE_S)

    def remove_temporaries(self, directory: Path) -> None:
        """Remove the temporary files that it has left, once it has ended."""
        if self._started is not None:
            remove_temporaries_of(directory, self._started.pid, self._started.host)

    def stop_polling(self) -> None:
        """Look into its mailbox no more."""
        self._poller.remove(self._polled)

    def job_ended(self, event: JobEvent) -> None:
        """Note that the job is over.

        Its worker's last messages may still arrive. The worker may even live: on a node
        that has lost contact with the others, or in its teardown.
        """
        text = f" ({event.text})" if event.text else ""
        self._lost = Ending(
            f"was lost{text}", is_killed=event.is_killed, is_evicted=event.is_evicted
        )
        if self.has_started:
            self.send(Stop())
            return
        ending = Ending(
            event.text or "its job ended at once",
            is_killed=event.is_killed,
            is_outage=event.is_outage,
            is_evicted=event.is_evicted,
            was_taken=self._job.number is not None and not event.is_stuck,
            node=event.node,
            has_started=False,
        )
        asyncio.get_running_loop().call_later(FIRST_WORD_S, self._end_unborn, ending)

    def _end_unborn(self, ending: Ending) -> None:
        if not self.has_started:
            # If Slurm has accepted the job all the same, its worker leaves at once.
            self.send(Stop())
            self._end(ending)

    def _deliver(self, delivery: Delivery) -> None:
        for message in delivery.messages:
            match message:
                case Started():
                    self._started = message
                    self._awaited += 1
                    self._job.worker_started()
                case Answer() | Ready() | SetupFailed():
                    self._awaited -= 1
                case HandedBack(ids):
                    self._awaited -= len(ids)
                case _:
                    pass
            self._messages.put_nowait(message)
        self._note_pulse(delivery)
        if delivery.fault is not None:
            self._give_up(delivery.fault)
        elif delivery.exit_code is not None:
            ending = ending_of(delivery.exit_code)
            # A scheduler ends with it what ignores warnings, such as a setup command.
            is_evicted = delivery.exit_code in {-signal.SIGTERM, -WARNS}
            self._end(replace(ending, is_evicted=is_evicted))
        elif self.has_started and delivery.still_s > self._patience_s:
            timeout_s = self._settings.worker_lost_timeout
            how = f"has shown no sign of life for {timeout_s} s"
            # If it does live, it must not continue beside its successor.
            self.kill()
            self._end(self._lost or Ending(how, is_killed=True))

    def _give_up(self, fault: Exception) -> None:
        """Take it for ended: none of its messages can be received any more."""
        self.kill()
        how = f"cannot be reached: internal error: {fault!r}"
        ending = Ending(how, is_killed=True, is_evicted=True)
        self._end(replace(ending, has_started=self.has_started))

    def _note_pulse(self, delivery: Delivery) -> None:
        """Have the scheduler asked before the worker counts as lost."""
        was_quiet = self.is_quiet
        limit_s = self._settings.worker_lost_timeout / 2
        self.is_quiet = self.has_started and delivery.still_s > limit_s
        if self.is_quiet and not was_quiet:
            self._job.hurry()

    @property
    def _patience_s(self) -> float:
        """For how many seconds its pulse may stay the same."""
        timeout_s = self._settings.worker_lost_timeout
        return timeout_s if self._lost is None else timeout_s / 2

    def _end(self, ending: Ending) -> None:
        if self.ending.done():
            return
        self.stop_polling()
        self._messages.put_nowait(None)
        # Only after its last messages have been taken.
        asyncio.get_running_loop().call_soon(self._settle, ending)

    async def _collect(self) -> None:
        try:
            await in_thread(keep_prints, self.mailbox, self._job.log)
        finally:
            self.collected.set()

    def _settle(self, ending: Ending) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)
            self._collecting = begin(self._collect())
            self._job.worker_ended(has_started=self.has_started)
