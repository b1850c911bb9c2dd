"""Show and watch signs of life between hosts: a file with a growing number.

The service has one for all its workers, and each worker has one in its mailbox, written
by the process of its job: a worker that hangs still has a pulse. Who counts as dead,
`dispatch.mailbox_link` decides. A full disk does not stop a pulse: the files are made
beforehand, and only written over.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

from tigerflow.errors import is_outage
from tigerflow.files import write_over

#: How many signs of life fit into the time after which their owner counts as gone.
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


class Stillness:
    """Measures how long something has been true at each look, by this host's clock.

    The time between two looks counts at most as much as the time between two beats: a
    late look means that the file server or this host hung, and others may have hung
    too.
    """

    def __init__(
        self, lost_s: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take `lost_s` seconds as the time after which somebody counts as gone."""
        self._most_s = lost_s / BEATS_PER_TIMEOUT
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Count from now on, whatever was before."""
        self._looked = self._clock()
        self._still_s = 0.0

    def look(self, *, is_so: bool) -> float:
        """Note whether it is so now; return for how many seconds it has been."""
        if not is_so:
            self.restart()
            return 0.0
        now = self._clock()
        self._still_s += min(now - self._looked, self._most_s)
        self._looked = now
        return self._still_s


class PulseWatch:
    """Measures for how long a pulse has not changed; see `Stillness`.

    While the file server answers with errors, nothing is known, and no time counts.
    """

    def __init__(
        self,
        path: Path,
        lost_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch `path`; without a beat for `lost_s` seconds, its owner is gone."""
        self._path = path
        self._last = b""
        self._stillness = Stillness(lost_s, clock)

    def restart(self) -> None:
        """Count from now on, whatever was before."""
        self._stillness.restart()

    def still_s(self) -> float:
        """Look, and return for how many seconds nothing has changed."""
        try:
            found = self._path.read_bytes()
        except OSError as error:
            return self._stillness.look(is_so=not is_outage(error))
        before, self._last = self._last, found
        return self._stillness.look(is_so=found == before)
