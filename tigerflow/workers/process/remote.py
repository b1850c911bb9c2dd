"""A worker process on another host: like `worker`, but with a mailbox for a socket.

    python -P -m tigerflow.workers.process.remote MAILBOX [END]

It tears down and ends when it is stopped, when the service shows no sign of life any
more, and before END, when the wall time of its job is over (seconds since the epoch).
Its parent, the job's process, beats its pulse and ends with it.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tigerflow.log import logger
from tigerflow.rundir.layout import MAILBOX_INBOX, MAILBOX_OUTBOX, pulse_of
from tigerflow.settings import Settings
from tigerflow.tasks.children import OwnHandlers
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.mailbox import STORAGE_PAUSE_S, Receiver, Sender
from tigerflow.workers.process.source import PoolSource, take_no_notice
from tigerflow.workers.process.worker import (
    end_process,
    prepare_process,
    serve_pool,
)
from tigerflow.workers.protocol import SUSPENDS, WARNS, LeaveReason, Left, Message, Stop
from tigerflow.workers.pulse import PulseWatch, Stillness

#: Seconds between looks for reasons to leave.
LOOK_S = 1.0


class MailboxChannel:
    """The messages to and from a pool, through a mailbox, and the reasons to end."""

    def __init__(
        self, mailbox: Path, settings: Settings, leave_at: float | None
    ) -> None:
        """Use `mailbox`, which exists, until `leave_at`, in seconds since the epoch."""
        self._inbox = mailbox / MAILBOX_INBOX
        self._receiver = Receiver(self._inbox)
        self._sender = Sender(mailbox / MAILBOX_OUTBOX)
        lost_s = settings.worker_lost_timeout
        self._watch = PulseWatch(pulse_of(mailbox), lost_s)
        #: Measures how long the mailbox has been gone.
        self._absence = Stillness(lost_s)
        self._settings = settings
        self._leave_at = leave_at
        self._parent = os.getppid()
        self._next_look = 0.0
        self._sending = threading.Lock()
        self._over = threading.Event()
        #: Why nothing more is received; None while it is.
        self.why: LeaveReason | None = None

    def receive(self) -> Iterator[Message]:
        """Yield the pool's messages, until there is a reason to leave."""
        pause_s = self._settings.mailbox_poll_ms / 1000
        while self.why is None:
            for message in self._receiver.receive():
                if isinstance(message, Stop):
                    self.why = LeaveReason.STOPPED
                    return
                yield message
            self._over.wait(pause_s)
            self.why = self._reason()
        logger.warning("Leaving: {}", self.why.value)

    def _reason(self) -> LeaveReason | None:
        if time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + LOOK_S
        if self._leave_at is not None and time.time() >= self._leave_at:
            return LeaveReason.WALL_TIME
        if os.getppid() != self._parent:
            return LeaveReason.ENDED
        missed_s = self._absence.look(is_so=self._is_gone())
        alone_s = max(missed_s, self._watch.still_s())
        is_alone = alone_s > self._settings.worker_lost_timeout
        return LeaveReason.ALONE if is_alone else None

    def _is_gone(self) -> bool:
        """Return whether the mailbox is gone; False if its server does not answer."""
        try:
            self._inbox.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def send(self, message: Message) -> None:
        """Send a message; wait while it cannot be stored."""
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

    def close(self, code: int) -> None:
        """Send the last message of a worker that ends with this exit code."""
        ended = LeaveReason.CANNOT_RUN if code else LeaveReason.ENDED
        self.send(Left(self.why or ended))
        self._over.set()


def main(mailbox: Path, end: float | None) -> None:
    """Serve one task for the pool at the other end of the mailbox."""
    prepare_process()
    settings = Settings.from_environment()
    leave_at = None if end is None else end - settings.worker_wall_time_grace
    channel = MailboxChannel(mailbox, settings, leave_at)
    requests = channel.receive()
    task = next(requests, None)
    code = 0
    if isinstance(task, WorkerTask):
        run_dir = mailbox.parents[4]
        OwnHandlers().set({SUSPENDS: take_no_notice})
        grace_s = settings.worker_grace
        source = PoolSource(requests, channel.send, grace_s, run_dir, warnings=[WARNS])
        code = serve_pool(task, source)
    channel.close(code)
    end_process(code, is_orphan=False)


if __name__ == "__main__":
    main(
        Path(os.path.abspath(sys.argv[1])),  # noqa: PTH100 -- as the others call it
        float(sys.argv[2]) if sys.argv[2:] else None,
    )
