"""A worker process on another host: what `worker` is, with a mailbox for a socket.

    python -P -m tigerflow.workers.remote MAILBOX

It ends, with its teardown, when it is told to stop, when the dispatcher shows no sign
of life any more, and before the wall time of its job is over.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tigerflow.layout import MAILBOX_INBOX, MAILBOX_OUTBOX, pulse_of
from tigerflow.log import logger
from tigerflow.settings import Settings
from tigerflow.workers.mailbox import (
    BEATS_PER_TIMEOUT,
    STORAGE_PAUSE_S,
    PulseWatch,
    Receiver,
    Sender,
)
from tigerflow.workers.protocol import (
    Beat,
    Left,
    Message,
    Started,
    Stop,
    WorkerTask,
)
from tigerflow.workers.worker import (
    PoolSource,
    end_process,
    prepare_process,
    serve_pool,
)


class Correspondence:
    """The messages through a mailbox, and the reasons to end them."""

    def __init__(self, mailbox: Path, settings: Settings) -> None:
        """Correspond through `mailbox`; it is there."""
        self._receiver = Receiver(mailbox / MAILBOX_INBOX)
        self._sender = Sender(mailbox / MAILBOX_OUTBOX)
        self._watch = PulseWatch(pulse_of(mailbox))
        self._settings = settings
        self._sending = threading.Lock()
        self._over = threading.Event()
        #: When to give up what is in hand, by this host's clock; None is never.
        self.leave_at: float | None = None
        #: Why no more is received.
        self.why = ""

    def receive(self) -> Iterator[Message]:
        """Yield what the dispatcher says, until there is a reason to stop."""
        pause_s = self._settings.mailbox_poll_ms / 1000
        while not self.why:
            for message in self._receiver.receive():
                if isinstance(message, Stop):
                    self.why = "it was told to stop"
                    return
                yield message
            self._over.wait(pause_s)
            self.why = self._reason()
        logger.warning("Leaving: {}", self.why)

    def _reason(self) -> str:
        if self.leave_at is not None and time.time() >= self.leave_at:
            return "its wall time is nearly over"
        timeout_s = self._settings.worker_lost_timeout
        if self._watch.still_s() > timeout_s:
            return f"the service has shown no sign of life for {timeout_s} s"
        return ""

    def tell(self, message: Message) -> None:
        """Send a message; while it cannot be stored, wait for that."""
        with self._sending:
            self._sender.post(message)
            while True:
                try:
                    self._sender.flush()
                except OSError as error:
                    logger.error("Cannot write to the mailbox: {}", error)
                    if self._over.wait(STORAGE_PAUSE_S):
                        return
                else:
                    return

    def beat(self) -> None:
        """Send signs of life until the end; for a thread."""
        pause_s = self._settings.worker_lost_timeout / BEATS_PER_TIMEOUT
        while not self._over.wait(pause_s):
            self.tell(Beat())

    def close(self) -> None:
        """Send the last word."""
        self.tell(Left(self.why or "its task cannot run"))
        self._over.set()


def main() -> None:
    """Serve one task for the dispatcher of the mailbox."""
    prepare_process()
    mailbox = Path(os.path.abspath(sys.argv[1]))  # noqa: PTH100 -- as the others call it
    os.chdir(mailbox.parents[4])
    settings = Settings.from_environment()
    post = Correspondence(mailbox, settings)
    requests = post.receive()
    told = next(requests, None)
    code = 0
    if isinstance(told, WorkerTask):
        ends_at = end_of_job(told)
        if ends_at is not None:
            post.leave_at = ends_at - settings.worker_wall_time_grace
        job = os.environ.get("SLURM_JOB_ID", "")
        post.tell(Started(socket.gethostname(), os.getpid(), job, ends_at))
        threading.Thread(target=post.beat, name="beat", daemon=True).start()
        source = PoolSource(requests, post.tell, settings.worker_grace)
        if told.working_dir is not None:
            os.chdir(told.working_dir)
        code = serve_pool(told, source)
    post.close()
    end_process(code, is_orphan=False)


def end_of_job(told: WorkerTask) -> float | None:
    """Return when this job must have ended, in seconds since the epoch.

    Newer versions of Slurm say so; for others, a job has begun a moment ago.
    """
    with contextlib.suppress(KeyError, ValueError):
        return float(os.environ["SLURM_JOB_END_TIME"])
    return None if told.wall_time is None else time.time() + told.wall_time


if __name__ == "__main__":
    main()
