"""Messages in files of a shared file system, between hosts that share nothing else.

A mailbox is a directory that only its owner may enter. In it, `inbox` has what the
dispatcher says and `outbox` what the worker says, one JSON message a line. Each file
has one writer, who opens it, appends whole lines and closes it; its reader opens it
anew for each look. So the close-to-open consistency of nfs(5) is enough: nothing is
locked, and no directory is listed.

Whether the dispatcher lives, its *pulse* says: a file with a number that grows.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tigerflow.workers.protocol import Message, decode, encode

#: Signs of life in the time after which somebody without one is taken for gone.
BEATS_PER_TIMEOUT = 4

#: How long a message that cannot be stored waits for the next try.
STORAGE_PAUSE_S = 2.0


class Sender:
    """Appends messages to one file."""

    def __init__(self, path: Path) -> None:
        """Append to `path`; nobody else does."""
        self._path = path
        self._unsent = b""

    def post(self, message: Message) -> None:
        """Put a message among those that `flush` sends."""
        self._unsent += encode(message)

    def flush(self) -> None:
        """Send what is unsent; what a full disk does not take stays for the next time.

        Raises:
            OSError: not all could be sent.
        """
        if not self._unsent:
            return
        with self._path.open("ab", buffering=0) as file:
            while self._unsent:
                taken = file.write(self._unsent)
                self._unsent = self._unsent[taken:]


class Receiver:
    """Reads the messages that somebody appends to one file."""

    def __init__(self, path: Path) -> None:
        """Read `path` from its start; it need not be there yet."""
        self._path = path
        self._read = 0

    def receive(self) -> list[Message]:
        """Return the messages that came since the last look; none if there are none.

        A last line that is not whole yet is left for the next look.
        """
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            # Not there yet, or the file server does not answer: there is a next look.
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [decode(line) for line in whole.splitlines()]


def make_mailbox(path: Path) -> None:
    """Make a mailbox that its owner alone may enter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whatever the umask leaves of it.
    path.mkdir(mode=0o700)
    path.chmod(0o700)


class Pulse:
    """The dispatcher's sign of life, for all its workers."""

    def __init__(self, path: Path) -> None:
        """Write to `path`."""
        self._path = path
        self._number = 0

    def beat(self) -> None:
        """Show that the dispatcher lives.

        Raises:
            OSError: it cannot be written.
        """
        self._number += 1
        # Not replaced: the file's readers know its handle, and a new one costs more.
        self._path.write_text(f"{os.getpid()} {self._number}\n", encoding="ascii")


class PulseWatch:
    """Tells for how long a pulse has stood still, by this host's clock alone."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch `path`."""
        self._path = path
        self._clock = clock
        self._last = b""
        self._changed = clock()

    def still_s(self) -> float:
        """Look, and return for how many seconds nothing has changed."""
        now = self._clock()
        try:
            found = self._path.read_bytes()
        except OSError:
            # As if there had been no beat: the file server may come back.
            return now - self._changed
        if found != self._last:
            self._last, self._changed = found, now
        return now - self._changed


def messages_until(
    receiver: Receiver,
    is_over: Callable[[], bool],
    wait: Callable[[], object],
) -> Iterator[Message]:
    """Yield what comes, and `wait` when nothing does, until it is over."""
    while not is_over():
        messages = receiver.receive()
        yield from messages
        if not messages:
            wait()
