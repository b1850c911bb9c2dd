"""`--background`: continue in a child process that no terminal can end.

The child starts as in the foreground. Until it is up, its errors go to the terminal, so
everything is validated once, and in the same way as in the foreground.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import typer

_FORWARDED = (signal.SIGINT, signal.SIGTERM)


def detach() -> Callable[[], None]:
    """Fork; return in the child process, with a function to call when it is up.

    The child has its own session. Standard input, output and error are /dev/null for
    the child and for its own children; only its `sys.stderr` is still the caller's,
    until it is up. The caller waits for that, prints the child's process ID and exits.
    If the child ends earlier, the caller exits with the child's exit code.
    """
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:  # noqa: PLR2004 -- standard error, or another that was closed
        null = os.dup(null)
    reader, writer = os.pipe()
    _flush()
    # A Ctrl-C at this moment is for both processes.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child:
        os.close(writer)
        _wait_until_up(child, reader)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    os.close(reader)
    os.setsid()
    errors = os.dup(2)
    sys.stderr = _Errors(errors)
    for descriptor in range(3):
        os.dup2(null, descriptor)

    def is_up() -> None:
        # Code that holds the stream continues to write to it.
        os.dup2(null, errors, inheritable=False)
        # The caller may have been killed, or its terminal closed.
        with contextlib.suppress(OSError):
            os.write(writer, b"+")
        os.close(writer)

    return is_up


def _flush() -> None:
    """Empty the buffers, which otherwise both processes would write."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


class _Errors(io.TextIOBase):
    """A stream without `fileno`, which multiprocessing would pass to its helpers."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace")

    def write(self, text: str) -> int:
        # The terminal may be closed before it is up.
        with contextlib.suppress(OSError):
            return self._file.write(text)
        return len(text)

    def isatty(self) -> bool:
        return self._file.isatty()


def _wait_until_up(child: int, reader: int) -> NoReturn:
    received: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    is_up = os.read(reader, 1)
    if is_up and not received:
        typer.echo(f"Started (pid {child})")
        sys.exit()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if received:
        sys.exit(128 + received[0])
    if code < 0:
        typer.echo(f"Error: killed by signal {-code} before it was up", err=True)
        sys.exit(128 - code)
    sys.exit(code)
