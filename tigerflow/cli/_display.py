"""Shows the progress of a service at the foot of a terminal, below the log lines.

The terminal's state is not changed, so there is nothing to restore when the process
ends in any way. The cursor rests at the start of the display's first line. The next
drawing starts there, even if the terminal was resized and has wrapped the lines.

A separate thread writes. So a terminal that accepts no text, because a user has paused
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

#: Least seconds between two drawings; log lines do not wait for it.
REFRESH_S = 0.25

#: Seconds between drawings if nothing has changed but the time.
TICK_S = 1.0

#: Seconds at the end for a terminal to accept the last text.
PATIENCE_S = 2.0

#: The most lines kept for a terminal that accepts none; the log file has all of them.
LINES_KEPT = 10_000

_CLEAR_TO_LINE_END, _CLEAR_BELOW = "\x1b[K", "\x1b[J"


class Display:
    """Shows snapshots at the foot of the terminal on standard error.

    Use it as a context manager. Text for `sys.stderr`, and for `sys.stdout` if that is
    a terminal, then appears above the display.
    """

    def __init__(self, console: Console, output_dir: Path) -> None:
        """Use a console that is a terminal; `output_dir` has the results."""
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
        # Shared with the thread, and guarded by the condition.
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
        """Show what `look` returns until the loop ends; call this in its thread."""
        self._look = look
        self._following = loop.create_task(self._follow(look))

    async def _follow(self, look: Callable[[], Snapshot]) -> None:
        while not self._is_broken:
            with self._guarded():
                self._show(look())
            await asyncio.sleep(REFRESH_S)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Stop drawing after an error, so that it does not end the service.

        Log lines still appear.
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
        """Leave the last state on the screen; from any thread, even repeatedly."""
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
            # In another thread, the loop may still run; then the last snapshot will do.
            with contextlib.suppress(RuntimeError):
                self._snapshot = self._look()
        if self._snapshot is None:
            return None
        return self._view().ended(self._snapshot, self._output_dir)

    def say(self, text: str) -> None:
        """Write whole lines above the display; none once it is closed."""
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
            # The cursor could not reach the first line of a display that is too high.
            self._rows = rows[: max(1, size.lines - 1)]
            self._wake.notify()

    def _view(self) -> View:
        # Terminals differ in what they do after a character in the last column.
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
        """Wait for something to write; return lines, rows, and if this is the end."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._lines or self._closing or self._rows is not drawn
            )
            lines = "".join(self._lines)
            self._lines.clear()
            return lines, self._rows, self._closing

    def _frame(self, rows: list[Text], *, stays: bool) -> str:
        """Return text that draws rows, then moves back up unless they stay."""
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
        # A terminal that is closed has no reader.
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
    """Return a display on standard error, if that is a terminal which can show it."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    console = Console(file=sys.stderr, highlight=False)
    return None if console.is_dumb_terminal else Display(console, output_dir)
