"""A terminal, as far as our display makes use of one."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runs import DEADLINE_S

_TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b.")


class Screen:
    """All lines that a terminal has shown, those scrolled away included."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._rows = [""]
        self._row = self._column = 0
        #: Control sequences that a display must not use: they would have to be undone.
        self.others: list[str] = []

    @property
    def lines(self) -> list[str]:
        """What stands there, without empty lines at the end."""
        rows = [row.rstrip() for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def feed(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            self._take(token[0], token[1], token[2])

    def _take(self, token: str, number: str | None, command: str | None) -> None:
        match command or token:
            case "\r":
                self._column = 0
            case "\n":
                self._down()
            case "A":
                self._row = max(0, self._row - int(number or 1))
            case "K":
                self._rows[self._row] = self._rows[self._row][: self._column]
            case "J":
                self._rows[self._row] = self._rows[self._row][: self._column]
                del self._rows[self._row + 1 :]
            case "m":
                pass
            case _ if token[0] == "\x1b":
                self.others.append(token)
            case _:
                self._print(token)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")

    def _print(self, text: str) -> None:
        for character in text:
            if self._column == self.columns:
                self._column = 0
                self._down()
            row = self._rows[self._row].ljust(self._column)
            after = row[self._column + 1 :]
            self._rows[self._row] = row[: self._column] + character + after
            self._column += 1


class Terminal:
    """A pseudo-terminal, the program that runs on it, and what it shows."""

    def __init__(self, words: list[str], columns: int = 80, **how: Any) -> None:
        self.screen = Screen(columns)
        self.raw = ""
        self._leader, follower = pty.openpty()
        self.resize(columns)
        self.before = termios.tcgetattr(follower)
        self._follower = follower
        self.process = subprocess.Popen(
            words,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=_take,  # noqa: PLW1509 -- no threads here
            **how,
        )

    def resize(self, columns: int) -> None:
        size = struct.pack("4H", 24, columns, 0, 0)
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, size)

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._follower)

    def press(self, keys: bytes) -> None:
        os.write(self._leader, keys)

    def until_shown(self, *texts: str) -> list[str]:
        """Return the lines of the screen once each of these is in one of them."""
        self._until(
            lambda: all(any(text in line for line in self.lines) for text in texts)
        )
        return self.lines

    def until_ends(self, *lines: str) -> None:
        """Wait until these are the last lines of the screen."""
        self._until(lambda: self.lines[-len(lines) :] == list(lines))

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, "\n".join(self.lines)
            self._read(0.1)

    def ended(self) -> int:
        """Return the exit code, when all that the program wrote is read."""
        end = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, "\n".join(self.lines)
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    @property
    def lines(self) -> list[str]:
        return self.screen.lines

    def hang_up(self) -> None:
        """Close it, as when its window is closed."""
        os.close(self._follower)
        os.close(self._leader)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(OSError):
            self.hang_up()

    def _read(self, patience_s: float) -> bool:
        if not select.select([self._leader], [], [], patience_s)[0]:
            return False
        text = os.read(self._leader, 65536).decode(errors="replace")
        self.raw += text
        self.screen.feed(text)
        return True


def _take() -> None:
    """Make standard input the controlling terminal."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


@contextlib.contextmanager
def terminal(words: list[str], cwd: Path, **how: Any) -> Iterator[Terminal]:
    made = Terminal(words, cwd=cwd, **how)
    try:
        yield made
    finally:
        made.close()
