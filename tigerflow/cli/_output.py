"""What goes to standard output: drawn for a terminal, or for a file or pipe."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text


def output_console() -> Console:
    """Return a console on standard output that shows every name of a file somehow."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where the encoding has no such characters, a file's name still comes out.
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False)


def print_whole(console: Console, lines: Iterable[Text]) -> None:
    """Print lines of a summary; nobody need read them, or be there to do so."""
    with console.capture() as capture:
        for line in lines:
            # Paths are to be copied, or found again in a file.
            console.print(line, soft_wrap=True)
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(capture.get())
    flush_output()


def flush_output() -> None:
    """Keep the exit code when nobody reads standard output any more.

    Python would flush it at its very end, and exit with 120 if that failed.
    """
    if sys.stdout is None:
        return
    try:
        # A task may have closed it.
        with contextlib.suppress(ValueError):
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
