"""Whether results can be stored: a full or read-only disk is no file's fault.

While they cannot, nothing is started; every now and then, it is tried.
"""

import time
from pathlib import Path

from tigerflow.errors import OutputDirectoryError
from tigerflow.files import storage_problem
from tigerflow.journal import Journal
from tigerflow.layout import STATE
from tigerflow.log import logger

#: How long nothing is started when results cannot be stored, before the next try.
STORAGE_PAUSE_S = 2.0

#: What the message of a single task's command ends in: here, nobody has to.
_START_AGAIN = "; nothing is lost, start again when this is mended"


class Storage:
    """The output directory, as far as there is room in it."""

    def __init__(self, run_dir: Path, journal: Journal) -> None:
        """Look after `run_dir` and its journal."""
        self._run_dir = run_dir
        self._journal = journal
        self._paused_until = 0.0
        #: Why nothing can be stored, while that is so.
        self.trouble: str | None = None

    def pause(self, reason: str) -> None:
        """Start nothing for a while; the first of several reasons is told."""
        if self.trouble is None:
            logger.error("{}; waiting for that", reason.removesuffix(_START_AGAIN))
        self.trouble = reason
        self._paused_until = time.monotonic() + STORAGE_PAUSE_S

    def recover(self) -> None:
        """Note that a result has been stored."""
        if self.trouble is not None:
            logger.info("Results can be stored again")
        self.trouble = None

    def is_open(self) -> bool:
        """Tell whether it makes sense to start anything."""
        if time.monotonic() < self._paused_until:
            return False
        problem = self._journal.flush()
        if problem is None and self.trouble is not None:
            return self.probe()
        if problem is not None:
            self.pause(str(OutputDirectoryError(self._run_dir, problem)))
        return problem is None

    def probe(self) -> bool:
        """Try to store something; tell whether that went, and pause if not."""
        problem = storage_problem(self._run_dir / STATE)
        if problem is not None:
            self.pause(str(OutputDirectoryError(self._run_dir, problem)))
        return problem is None
