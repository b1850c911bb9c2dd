"""Signs of life between hosts: a file with a number that grows.

The dispatcher has one for all its workers, and each worker has one in its mailbox.
A full disk does not stop them: they are made beforehand, and only written over.
"""

import time
from collections.abc import Callable
from pathlib import Path

from tigerflow.files import write_over

#: Signs of life in the time after which somebody without one is taken for gone.
BEATS_PER_TIMEOUT = 4

#: Digits of the number, so that each beat takes the place of the one before.
_WIDTH = 20


class Pulse:
    """The sign of life of this process."""

    def __init__(self, path: Path) -> None:
        """Write to `path`."""
        self._path = path
        self._number = time.time_ns()

    def beat(self) -> None:
        """Show that this process lives.

        Raises:
            OSError: it cannot be written.
        """
        self._number += 1
        write_over(self._path, f"{self._number:0{_WIDTH}}\n")


class PulseWatch:
    """Tells for how long a pulse has stood still, by this host's clock alone."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch `path`."""
        self._path = path
        self._clock = clock
        self._last = b""
        self._changed = clock()

    def restart(self) -> None:
        """Count from now on, whatever was before."""
        self._changed = self._clock()

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
