"""Keep a host's socket and lock file in /tmp, where cleaners come by.

They are touched, and made again when they were removed.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tigerflow.workers import client

#: Seconds between looks whether everything is still there.
KEEP_S = 2.0

#: Seconds after which files are touched: cleaners remove files that are days old.
RENEW_S = 3600.0


class Address:
    """A host's socket, and the file that its workers lock."""

    def __init__(self, path: str) -> None:
        """Keep the socket at `path`, which exists, and the files beside it."""
        self.path = path
        self._removing = threading.Lock()
        self._is_removed = False
        self._renewed = time.monotonic()

    @property
    def alive(self) -> Path:
        """The file that the host and its workers lock."""
        return Path(f"{self.path}.alive")

    def keep(self) -> socket.socket | None:
        """Make again what was removed; return a new listener if the socket was lost.

        Raises:
            OSError: it cannot be made for now.
        """
        if time.monotonic() - self._renewed > RENEW_S:
            self._renew()
        place = Path(self.path).parent
        # Another process may have made it.
        place.mkdir(mode=0o700, exist_ok=True)
        if not client.is_private(str(place)):
            return None
        if not self.alive.exists():
            _lock_for_good(self.alive)
        if os.path.lexists(self.path):
            return None
        with client.locked(f"{self.path}.lock"):
            # A client may have started another host in the meantime.
            is_taken = os.path.lexists(self.path)
            return None if is_taken else client.listen(self.path)

    def withdraw(self) -> None:
        """Remove the socket: the next client starts a new host.

        The lock makes sure that it is ours, not that of a successor. It happens once,
        even if another thread abandons this host at the same time.
        """
        lock = f"{self.path}.lock"
        with self._removing:
            if self._is_removed:
                return
            # A cleaner of /tmp may have removed it, and another host may have one now.
            with contextlib.suppress(OSError), client.locked(lock):
                Path(self.path).unlink(missing_ok=True)
                Path(lock).unlink()
            self._is_removed = True

    def abandon(self) -> None:
        """Remove the socket and the file that is locked: nobody serves any more.

        Raises:
            OSError: the file cannot be removed.
        """
        self.withdraw()
        self.alive.unlink(missing_ok=True)

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        place = Path(self.path).parent
        for path in (place, *place.glob(f"{Path(self.path).name}*")):
            for each in (path, *path.glob("*")):
                with contextlib.suppress(OSError):
                    os.utime(each)


def _lock_for_good(path: Path) -> None:
    """Lock a file for good, so that later hosts see that this process lives."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    # A host that waits for this one may hold it for a moment.
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextlib.contextmanager
def only_generation(listener: socket.socket) -> Iterator[None]:
    """Wait until no worker of an earlier host lives; have later hosts wait for ours.

    A predecessor's workers may still be tearing down, and hold what `setup` will open.
    """
    path = f"{listener.getsockname()}.alive"
    with client.locked(path) as alive:
        # Our workers hold it too.
        fcntl.flock(alive, fcntl.LOCK_SH)
        try:
            yield
        finally:
            # A cleaner of /tmp may have removed it.
            Path(path).unlink(missing_ok=True)
