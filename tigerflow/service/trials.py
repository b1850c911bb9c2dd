"""Whether Snakemake can run at all, found out by windows with nothing to do (trials).

One runs at each start, beside the first files, and one whenever a window ends in a way
that its files do not explain. While it is in doubt, no window starts, and no file is
blamed.
"""

import asyncio
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from tigerflow.engine.forks import ForkError
from tigerflow.engine.window import WindowExit, WindowRunner
from tigerflow.log import logger

#: Seconds before each further trial; when the last one fails, the service ends.
PAUSES_S = (1, 2, 4, 8, 15, 30, 60)


class Trials:
    """The trials of one service."""

    def __init__(
        self,
        windows: WindowRunner,
        has_room: Callable[[], bool],
        on_end: Callable[[bool], None],
    ) -> None:
        """Run trials through `windows`; `on_end` gets whether one succeeded.

        A trial does not count if it fails while nothing can be stored (`has_room` says
        so), or while the system is short of processes.
        """
        self._windows = windows
        self._has_room = has_room
        self._on_end = on_end
        self._failures = 0
        self._is_under_way = False
        #: Whether the system is short of processes or the like, and that was logged.
        self._is_short = False
        #: Whether one went well in this run.
        self._has_run = False
        #: Whether windows may start.
        self.is_open = True
        #: Why Snakemake cannot run, when it has been tried for long enough.
        self.failure: str | None = None

    def begin(self) -> None:
        """Start a trial, unless one is running."""
        if not self._is_under_way:
            self._is_under_way = True
            self._try()

    def doubt(self) -> None:
        """Start no window before a trial succeeds."""
        self.is_open = False
        self.begin()

    def note_failure(self, error: ForkError) -> None:
        """Note that not even a process for a window can be started."""
        self.is_open = False
        if not self._is_under_way:
            self._is_under_way = True
            self._could_not_start(error)

    def _try(self) -> None:
        try:
            process = self._windows.start_trial()
        except ForkError as error:
            self._could_not_start(error)
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(process.sentinel, self._ended, process)

    def _ended(self, process: BaseProcess) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        code = self._windows.end(process)
        if code != WindowExit.DONE:
            is_short = code == WindowExit.SHORTAGE
            self._failed(self._windows.last_words(), is_short=is_short)
            return
        if not self._has_run:
            for note in self._windows.notes():
                logger.warning("{}", note)
        self._windows.forget_trial()
        self._is_under_way, self._failures, self._is_short = False, 0, False
        self.is_open = self._has_run = True
        self._on_end(True)  # noqa: FBT003 -- a callback

    def _could_not_start(self, error: ForkError) -> None:
        # It may pass, also when a server has died of it.
        self._failed(str(error), is_short=error.is_shortage, may_pass=True)

    def _failed(
        self, reason: str, *, is_short: bool = False, may_pass: bool = False
    ) -> None:
        self.is_open = False
        loop = asyncio.get_running_loop()
        if is_short and not self._is_short:
            self._is_short = True
            logger.warning("Cannot start Snakemake at the moment; retrying: {}", reason)
        if is_short or not self._has_room():
            loop.call_later(PAUSES_S[0], self._try)
            return
        self._failures += 1
        is_final = not (self._has_run or may_pass)
        if is_final or self._failures > len(PAUSES_S):
            self.failure = reason
        else:
            pause_s = PAUSES_S[self._failures - 1]
            logger.warning("Snakemake cannot run; retrying: {}", reason)
            loop.call_later(pause_s, self._try)
        self._on_end(False)  # noqa: FBT003 -- a callback
