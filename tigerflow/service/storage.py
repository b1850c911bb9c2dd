"""Whether inputs can be read and results stored: if not, no file is to blame.

A disk may be full or read-only, and a file server may not answer. Until that is over,
nothing is started, and the directories are tried again and again.
"""

import time
from pathlib import Path

from tigerflow.errors import (
    START_AGAIN,
    OutputDirectoryError,
)
from tigerflow.files import trouble_with
from tigerflow.log import logger
from tigerflow.rundir.journal import Journal
from tigerflow.rundir.layout import STATE

#: Seconds between two tries of directories that cannot be used.
STORAGE_PAUSE_S = 2.0


class Storage:
    """The state of a run's two directories: usable or not."""

    def __init__(self, run_dir: Path, input_dir: Path, journal: Journal) -> None:
        """Watch `run_dir` with its journal, and `input_dir`."""
        self._run_dir = run_dir
        self._input_dir = input_dir
        self._journal = journal
        self._paused_until = 0.0
        #: Why nothing can be read or stored, while that is so.
        self.trouble: str | None = None

    def pause(self, reason: str) -> None:
        """Start nothing for a while; of several reasons, the first is logged."""
        if self.trouble is None:
            logger.error(
                "{}; paused until this is fixed", reason.removesuffix(START_AGAIN)
            )
        self.trouble = reason
        self._paused_until = time.monotonic() + STORAGE_PAUSE_S

    def recover(self) -> None:
        """Note that inputs have been read, and results stored."""
        if self.trouble is not None:
            logger.info("Inputs and results can be read and written again")
        self.trouble = None

    def is_open(self) -> bool:
        """Tell whether anything may be started now."""
        if time.monotonic() < self._paused_until:
            return False
        problem = self._journal.flush()
        if problem is None and self.trouble is not None:
            return self.probe()
        if problem is not None:
            self.pause(str(OutputDirectoryError(self._run_dir, problem)))
        return problem is None

    def probe(self) -> bool:
        """Try to read inputs and store results; pause and return False if not."""
        state = self._run_dir / STATE
        problem = trouble_with(self._input_dir, self._run_dir, state)
        if problem is not None:
            self.pause(str(problem))
        return problem is None
