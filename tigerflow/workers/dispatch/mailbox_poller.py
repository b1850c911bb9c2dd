"""Look into the mailboxes of all workers on other hosts, in a thread of its own.

A file server may be slow, and the event loop must not wait for it.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tigerflow.faults import raise_in
from tigerflow.rundir.layout import (
    MAILBOX_INBOX,
    MAILBOX_OUTBOX,
    MAILBOX_PULSE,
    MAILBOXES,
    PULSE,
)
from tigerflow.settings import Settings
from tigerflow.shortage import start_thread
from tigerflow.workers.mailbox import (
    Receiver,
    Sender,
    exit_code,
    remove_empty_mailboxes,
)
from tigerflow.workers.protocol import Message, Started
from tigerflow.workers.pulse import BEATS_PER_TIMEOUT, Pulse, PulseWatch

#: While no answer is expected, a mailbox is polled this many times less often.
QUIET_FACTOR = 5

#: Seconds between looks at a worker's pulse.
PULSE_S = 1.0


@dataclass(frozen=True)
class Delivery:
    """What one look into a mailbox has found."""

    messages: Sequence[Message]
    #: Of the worker's process, as `Popen.returncode`; None while it lives.
    exit_code: int | None
    #: For how many seconds its pulse has not changed.
    still_s: float = 0.0
    #: An unexpected error, after which nothing more will come.
    fault: Exception | None = None


class PolledMailbox:
    """One mailbox that is polled."""

    def __init__(
        self,
        mailbox: Path,
        deliver: Callable[[Delivery], None],
        is_urgent: Callable[[], bool] = lambda: True,
        lost_s: float = math.inf,
    ) -> None:
        """Call `deliver`, in the event loop, with what comes, and now and then.

        While `is_urgent`, answers are expected, and the mailbox is polled more often.
        After `lost_s` seconds without a sign of life, its worker counts as gone.
        """
        self.deliver = deliver
        self.is_urgent = is_urgent
        self.next_look = 0.0
        self._mailbox = mailbox
        self._sender = Sender(mailbox / MAILBOX_INBOX)
        self._receiver = Receiver(mailbox / MAILBOX_OUTBOX)
        self._watch = PulseWatch(mailbox / MAILBOX_PULSE, lost_s)
        self._looked_at = 0.0
        self._outgoing: list[Message] = []
        self._lock = threading.Lock()

    @property
    def has_mail(self) -> bool:
        """Whether there are messages to send."""
        return bool(self._outgoing)

    def post(self, message: Message) -> None:
        """Add a message to those to send; from any thread."""
        with self._lock:
            self._outgoing.append(message)

    def exchange(self) -> Delivery | None:
        """Send what was posted; return what has come, or None for nothing new."""
        with self._lock:
            outgoing, self._outgoing = self._outgoing, []
        for message in outgoing:
            self._sender.post(message)
        # What cannot be sent now is sent with the next look.
        with contextlib.suppress(OSError):
            self._sender.flush()
        # In this order: what came before the end is received before it.
        code = exit_code(self._mailbox)
        messages = self._receiver.receive()
        if any(isinstance(message, Started) for message in messages):
            # Its job may have waited for a long time before.
            self._watch.restart()
        now = time.monotonic()
        is_due = now - self._looked_at >= PULSE_S
        if not (messages or is_due) and code is None:
            return None
        self._looked_at = now
        return Delivery(messages, code, self._watch.still_s())


class MailboxPoller:
    """Polls each mailbox in turn, and beats the pulse of this process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        run_dir: Path,
        poll_s: float,
        beat_s: float,
    ) -> None:
        """Deliver into `loop`; poll every `poll_s`, beat every `beat_s` seconds."""
        self._loop = loop
        self._run_dir = run_dir
        self._pulse = Pulse(run_dir / PULSE)
        self._poll_s = poll_s
        self._beat_s = beat_s
        self._polled: set[PolledMailbox] = set()
        #: No longer polled, but with messages still to send.
        self._last: list[PolledMailbox] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        #: The unexpected error that has ended the thread.
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="mailboxes", daemon=True)

    @classmethod
    def for_run(cls, run_dir: Path, settings: Settings) -> Self:
        """Start one for the mailboxes of a run directory.

        Raises:
            OSError: the directory of mailboxes cannot be made.
        """
        (run_dir / MAILBOXES).mkdir(mode=0o700, parents=True, exist_ok=True)
        poll_s = settings.mailbox_poll_ms / 1000
        beat_s = settings.worker_lost_timeout / BEATS_PER_TIMEOUT
        poller = cls(asyncio.get_running_loop(), run_dir, poll_s, beat_s)
        poller.start()
        return poller

    def start(self) -> None:
        """Start polling."""
        start_thread(self._thread)

    def close(self) -> None:
        """Send what was posted, then stop polling."""
        self._over = True
        self._wake.set()
        self._thread.join()
        remove_empty_mailboxes(self._run_dir)

    def add(self, each: PolledMailbox) -> None:
        """Start polling a mailbox."""
        with self._lock:
            self._polled.add(each)
            fault = self._fault
        if fault is not None:
            self._deliver(each, Delivery((), None, fault=fault))
        self._wake.set()

    def remove(self, each: PolledMailbox) -> None:
        """Stop polling a mailbox; what was posted is still sent."""
        with self._lock:
            self._polled.discard(each)
            if each.has_mail:
                self._last.append(each)
        self._wake.set()

    def hurry(self) -> None:
        """Poll now; from any thread."""
        self._wake.set()

    def _run(self) -> None:
        try:
            self._poll_until_closed()
        except Exception as error:  # noqa: BLE001 -- nobody may wait for it forever
            with self._lock:
                self._fault = error
                polled = list(self._polled)
            raise_in(self._loop, error)
            for each in polled:
                self._deliver(each, Delivery((), None, fault=error))

    def _poll_until_closed(self) -> None:
        next_beat = 0.0
        while True:
            is_over = self._over
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_s
                # Workers miss several beats before they leave.
                with contextlib.suppress(OSError):
                    self._pulse.beat()
            with self._lock:
                polled = list(self._polled)
                last, self._last = self._last, []
            for each in last:
                each.exchange()
            for each in polled:
                if is_over or each.has_mail or time.monotonic() >= each.next_look:
                    self._look(each)
            if is_over:
                return
            urgent = any(each.is_urgent() for each in polled)
            pause_s = self._poll_s if urgent else self._poll_s * QUIET_FACTOR
            self._wake.wait(min(pause_s, self._beat_s))
            self._wake.clear()

    def _look(self, each: PolledMailbox) -> None:
        delivery = each.exchange()
        factor = 1 if each.is_urgent() else QUIET_FACTOR
        each.next_look = time.monotonic() + self._poll_s * factor * 0.9
        if delivery is not None:
            self._deliver(each, delivery)

    def _deliver(self, each: PolledMailbox, delivery: Delivery) -> None:
        # The loop may be over already.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(each.deliver, delivery)
