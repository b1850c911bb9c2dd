"""The foot of a terminal: how far a service is, below the lines that it logs.

Nothing of the terminal's state is changed, so nothing needs to be put back, whatever
ends the process. The cursor rests at the start of the display's first line: to draw
anew starts there, also when the terminal was resized and has wrapped the lines.

A thread of its own writes. A terminal that takes nothing, because somebody has stopped
it or a connection hangs, never holds up the service.
"""

import asyncio
import contextlib
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from tigerflow.cli._progress import Throughput, View
from tigerflow.cli._signs import signs_for
from tigerflow.log import logger
from tigerflow.service.snapshot import Snapshot

#: The least time between two drawings; lines of the log do not wait for it.
REFRESH_S = 0.25

#: How often it is drawn although only time has passed.
TICK_S = 1.0

#: A terminal that takes nothing for so long at the end gets no more.
PATIENCE_S = 2.0

#: More lines than this are not kept for a terminal that takes none; the log has them.
LINES_KEPT = 10_000

_CLEAR_TO_LINE_END, _CLEAR_BELOW = "\x1b[K", "\x1b[J"


class Display:
    """Shows snapshots at the foot of the terminal that standard error is.

    Use it as a context manager: what is written to `sys.stderr` meanwhile, and to
    `sys.stdout` if that is a terminal too, appears above it.
    """

    def __init__(self, console: Console, output_dir: Path) -> None:
        """Show on a console that is a terminal; the results are in `output_dir`."""
        self._console = console
        self._descriptor = console.file.fileno()
        self._output_dir = output_dir
        self._pace = Throughput()
        self._snapshot: Snapshot | None = None
        self._size = os.terminal_size((0, 0))
        self._drawn_at_s = 0.0
        self._look: Callable[[], Snapshot] | None = None
        self._following: asyncio.Task[None] | None = None
        self._restore = contextlib.ExitStack()
        self._wake = threading.Condition()
        # Of the thread, and what it is told, under the condition.
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._rows: list[Text] | None = None
        self._closing = False
        #: Whether it could not be drawn.
        self._is_broken = False
        self._thread = threading.Thread(target=self._write, name="display", daemon=True)

    def __enter__(self) -> Self:
        sys.stderr.flush()
        self._thread.start()
        self._restore.enter_context(contextlib.redirect_stderr(_Above(self)))
        if sys.stdout is not None and sys.stdout.isatty():
            self._restore.enter_context(contextlib.redirect_stdout(_Above(self)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore.close()
        self.close()

    def follow(
        self, loop: asyncio.AbstractEventLoop, look: Callable[[], Snapshot]
    ) -> None:
        """Show what `look` returns, until the loop ends; in its thread."""
        self._look = look
        self._following = loop.create_task(self._follow(look))

    async def _follow(self, look: Callable[[], Snapshot]) -> None:
        while not self._is_broken:
            with self._guarded():
                self._show(look())
            await asyncio.sleep(REFRESH_S)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Show nothing more when it cannot be drawn: the service is not to end for it.

        Lines of the log still appear.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is only a view
            with self._wake:
                was_broken, self._is_broken = self._is_broken, True
                self._rows = None
            if not was_broken:
                warning = logger.opt(exception=error)
                warning.warning("The display has failed; the log goes on without it")

    def close(self) -> None:
        """Leave the last state on the screen; from any thread, also more than once."""
        rows = None
        if not (self._closing or self._is_broken):
            with self._guarded():
                rows = self._last_rows()
        with self._wake:
            if not self._closing and rows is not None:
                self._rows = rows
            self._closing = True
            self._wake.notify()
        self._thread.join(PATIENCE_S)

    def _last_rows(self) -> list[Text] | None:
        if self._look is not None:
            # The loop may go on when it is not its thread: then the last will do.
            with contextlib.suppress(RuntimeError):
                self._snapshot = self._look()
        if self._snapshot is None:
            return None
        return self._view().ended(self._snapshot, self._output_dir)

    def say(self, text: str) -> None:
        """Put whole lines above the display; none once it is closed."""
        with self._wake:
            if not self._closing:
                self._lines.append(text)
                self._wake.notify()

    def _show(self, snapshot: Snapshot) -> None:
        now_s, size = time.monotonic(), self._terminal_size()
        is_tick = snapshot.to_do > 0 and now_s - self._drawn_at_s >= TICK_S
        if snapshot == self._snapshot and size == self._size and not is_tick:
            return
        self._pace.see(snapshot, now_s)
        self._snapshot, self._size, self._drawn_at_s = snapshot, size, now_s
        rows = self._view().running(snapshot, self._pace.per_second(now_s))
        with self._wake:
            # Higher than the terminal, its first line would be out of reach.
            self._rows = rows[: max(1, size.lines - 1)]
            self._wake.notify()

    def _view(self) -> View:
        # A character in the last column makes terminals differ.
        return View(self._terminal_size().columns - 1, signs_for(self._console))

    def _terminal_size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._descriptor)
        except OSError:
            size = os.terminal_size((0, 0))
        return (
            size if size.columns > 1 and size.lines > 1 else os.terminal_size((80, 24))
        )

    # In the thread that writes

    def _write(self) -> None:
        drawn: list[Text] | None = None
        frame, is_last = "", False
        while not is_last:
            lines, rows, is_last = self._next(drawn)
            if rows is not drawn or is_last:
                drawn, frame = rows, ""
                with self._guarded():
                    frame = self._frame(rows or [], stays=is_last)
            self._put("\r" + lines.replace("\n", f"{_CLEAR_TO_LINE_END}\n") + frame)

    def _next(self, drawn: list[Text] | None) -> tuple[str, list[Text] | None, bool]:
        """Wait for something to write; return lines, rows, and whether it is over."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._lines or self._closing or self._rows is not drawn
            )
            lines = "".join(self._lines)
            self._lines.clear()
            return lines, self._rows, self._closing

    def _frame(self, rows: list[Text], *, stays: bool) -> str:
        """Return what draws the rows from here, and comes back here unless it stays."""
        console = self._console
        console.size = self._terminal_size()
        with console.capture() as capture:
            for row in rows:
                console.print(row, width=console.width - 1)
        drawn = capture.get().replace("\n", f"{_CLEAR_TO_LINE_END}\n")
        if stays:
            return drawn + _CLEAR_BELOW
        up = f"\x1b[{len(rows)}A" if rows else ""
        return f"{drawn}{_CLEAR_BELOW}{up}\r"

    def _put(self, text: str) -> None:
        data = text.encode(self._console.encoding, errors="backslashreplace")
        # It may be closed: then nobody reads it.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]


class _Above(io.TextIOBase):
    """A stream whose lines appear above a display."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._begun = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            whole, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._display.say(whole + newline)
        return len(text)

    def isatty(self) -> bool:
        return True


def display_on_terminal(output_dir: Path) -> Display | None:
    """Return a display on standard error, if that can show one."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    console = Console(file=sys.stderr, highlight=False)
    return None if console.is_dumb_terminal else Display(console, output_dir)
