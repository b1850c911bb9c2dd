"""Keep track of jobs of workers that were submitted together."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tigerflow.workers.dispatch.mailbox_link import MailboxLink
from tigerflow.workers.dispatch.scheduler import JobEvent, Submission
from tigerflow.workers.dispatch.status import TaskStatus


@dataclass(eq=False)
class SubmittedJobs:
    """Jobs that were submitted together."""

    submission: Submission
    jobs: list["Job"]
    #: Whether the jobs are to end, and nobody needs to know how.
    is_closing: bool = False

    def __post_init__(self) -> None:
        for job in self.jobs:
            job.submitted = self

    def cancel_idle(self) -> None:
        """Cancel the jobs if they are to end and none has a worker any more."""
        links = [link for job in self.jobs for link in job.links]
        if self.is_closing and all(link.is_idle for link in links):
            self.submission.cancel()


@dataclass(eq=False)
class Job:
    """One job, and the workers in it."""

    name: str
    status: TaskStatus
    place: Path
    #: Where the prints of the task's workers are collected.
    log: Path
    #: Has the scheduler asked about the job soon.
    hurry: Callable[[], None]
    links: list[MailboxLink] = field(default_factory=list)
    submitted: SubmittedJobs | None = None
    #: The scheduler's number, once it has accepted the job.
    number: str | None = None
    #: Set when it is no longer in the queue.
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: JobEvent) -> None:
        """Note what has happened to it."""
        match event.kind:
            case "submitted":
                self.number = event.text
                self.status.submitted(self.name, event.text)
                self.cancel_unneeded()
            case "failed" | "finished" | "ended" if not self.gone.is_set():
                self.gone.set()
                self.status.job_ended(self.name)
                for link in self.links:
                    link.job_ended(event)
            case _:
                pass

    def see_end(self, event: JobEvent, state: str) -> None:
        """Note that it has ended, and pass that on to its submission."""
        self.take(event)
        if self.submitted is not None:
            self.submitted.submission.end(self.name, state)

    @property
    def has_begun(self) -> bool:
        """Whether a worker in it has started."""
        return any(link.has_started for link in self.links)

    @property
    def is_silent(self) -> bool:
        """Whether no worker in it shows that it lives."""
        return all(link.is_idle or link.is_quiet for link in self.links)

    @property
    def is_over(self) -> bool:
        """Whether all its workers are known to have ended."""
        return self.has_begun and all(link.is_idle for link in self.links)

    def worker_started(self) -> None:
        """Note that a worker in it runs."""
        self.status.worker_started(self.name)

    def worker_ended(self, *, has_started: bool) -> None:
        """Note that a worker in it has ended, or will never start."""
        if has_started:
            self.status.worker_ended()
        if self.submitted is not None:
            self.submitted.cancel_idle()

    def cancel(self) -> None:
        """Cancel it, unless it has ended."""
        if self.submitted is not None and not self.gone.is_set():
            self.submitted.submission.cancel([self.name])
            self.hurry()

    def cancel_unneeded(self) -> None:
        """Cancel it if it has not begun and its workers are no longer needed."""
        if not self.has_begun and all(link.is_stopped for link in self.links):
            self.cancel()

    def discard(self) -> None:
        """Remove its mailboxes."""
        for link in self.links:
            link.stop_polling()
        shutil.rmtree(self.place, ignore_errors=True)
