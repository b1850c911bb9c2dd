"""Looks after the mailboxes of all workers on other hosts, in a thread of its own.

A file server may take its time; the event loop must not wait for it.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tigerflow.layout import MAILBOX_EXIT, MAILBOX_INBOX, MAILBOX_OUTBOX, PULSE
from tigerflow.settings import Settings
from tigerflow.workers.mailbox import BEATS_PER_TIMEOUT, Pulse, Receiver, Sender
from tigerflow.workers.protocol import Message

#: While nothing is in hand anywhere, this many times more rarely.
QUIET_FACTOR = 5


@dataclass(frozen=True)
class Delivery:
    """What a look into a mailbox brought."""

    messages: Sequence[Message]
    #: That of the worker's process, once it has ended; as `Popen.returncode`.
    exit_code: int | None


@dataclass(eq=False)
class Round:
    """One mailbox on the postman's round."""

    mailbox: Path
    #: Called in the event loop with what came; nothing came is told too.
    deliver: Callable[[Delivery], None]
    #: Whether answers are waited for: then it is looked into more often.
    is_urgent: Callable[[], bool]
    _outgoing: list[Message] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._sender = Sender(self.mailbox / MAILBOX_INBOX)
        self._receiver = Receiver(self.mailbox / MAILBOX_OUTBOX)

    def post(self, message: Message) -> None:
        """Put a message among those to be sent; from any thread."""
        with self._lock:
            self._outgoing.append(message)

    def exchange(self) -> Delivery:
        """Send what is to be sent, and look what has come."""
        with self._lock:
            outgoing, self._outgoing = self._outgoing, []
        for message in outgoing:
            self._sender.post(message)
        # What cannot be sent now is sent with the next look.
        with contextlib.suppress(OSError):
            self._sender.flush()
        # In this order: what came before the end is received before it.
        code = _exit_code(self.mailbox)
        return Delivery(self._receiver.receive(), code)


class Postman:
    """Makes the rounds, and beats the pulse."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pulse: Path, poll_s: float, beat_s: float
    ) -> None:
        """Deliver into `loop`; look every `poll_s`, beat every `beat_s`."""
        self._loop = loop
        self._pulse = Pulse(pulse)
        self._poll_s = poll_s
        self._beat_s = beat_s
        self._rounds: set[Round] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="postman", daemon=True)

    @classmethod
    def for_run(cls, run_dir: Path, settings: Settings) -> Self:
        """Start one for the mailboxes of a run directory.

        Raises:
            OSError: there can be no mailboxes.
        """
        pulse = run_dir / PULSE
        pulse.parent.mkdir(parents=True, exist_ok=True)
        poll_s = settings.mailbox_poll_ms / 1000
        beat_s = settings.worker_lost_timeout / BEATS_PER_TIMEOUT
        postman = cls(asyncio.get_running_loop(), pulse, poll_s, beat_s)
        postman.start()
        return postman

    def start(self) -> None:
        """Start making rounds."""
        self._thread.start()

    def stop(self) -> None:
        """Make no more rounds; what is posted is sent before that."""
        self._over = True
        self._wake.set()
        self._thread.join()

    def add(self, each: Round) -> None:
        """Take a mailbox on the round."""
        with self._lock:
            self._rounds.add(each)
        self._wake.set()

    def remove(self, each: Round) -> None:
        """Take a mailbox off the round."""
        with self._lock:
            self._rounds.discard(each)

    def hurry(self) -> None:
        """Look now; from any thread."""
        self._wake.set()

    def _run(self) -> None:
        next_beat = 0.0
        while True:
            is_over = self._over
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_s
                # Workers wait several beats before they give the service up.
                with contextlib.suppress(OSError):
                    self._pulse.beat()
            with self._lock:
                rounds = list(self._rounds)
            for each in rounds:
                delivery = each.exchange()
                # The loop may be over already.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(each.deliver, delivery)
            if is_over:
                return
            urgent = any(each.is_urgent() for each in rounds)
            pause_s = self._poll_s if urgent else self._poll_s * QUIET_FACTOR
            self._wake.wait(min(pause_s, self._beat_s))
            self._wake.clear()


def _exit_code(mailbox: Path) -> int | None:
    try:
        return int((mailbox / MAILBOX_EXIT).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
