"""Loguru, set up on request: one event, one line, on stderr and in a file.

The logger is one of our own. That of the package `loguru` is the task's, to be set up
as it likes; nothing that it does there changes what is logged here. No message is
worded here: that a file failed, for example, is worded in `workers.process.source` or,
when its worker died, in `workers.dispatch.endings`.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

# No public way: the documented one copies the sinks of the package's own logger.
from loguru._logger import Core, Logger

from tigerflow.errors import TigerflowError

if TYPE_CHECKING:
    import loguru
    from loguru import Record

#: Levels of the Dask-based TigerFlow that its tools and task packages look for.
METRICS = "METRICS"
_EXTRA_LEVELS = {"INIT": 25, METRICS: 25}

_OPTIONS: dict[str, Any] = {
    "format": "{time:YYYY-MM-DD HH:mm:ss} | <level>{level: <8}</level> | {message}",
    "level": "INFO",
    # A line is written before the next thing happens, so that a crash loses none.
    "enqueue": False,
    "backtrace": False,
    "diagnose": False,
}

#: Marks lines that are only for a file, because somebody else tells the terminal.
_FILE_ONLY = "file_only"


def make_logger() -> "loguru.Logger":
    """Return a logger without sinks, that has the extra levels."""
    made: Any = Logger(  # type: ignore[no-untyped-call] # nothing private has types
        core=Core(),  # type: ignore[no-untyped-call] # the same
        exception=None,
        depth=0,
        record=False,
        lazy=False,
        colors=False,
        raw=False,
        capture=True,
        patchers=[],
        extra={},
    )
    for name, number in _EXTRA_LEVELS.items():
        made.level(name, no=number, color="<dim>")
    return cast("loguru.Logger", made)


logger = make_logger()


def configure(stream: TextIO | None = None) -> None:
    """Log as `YYYY-MM-DD HH:MM:SS | LEVEL    | message`, coloured on a terminal.

    METRICS lines are for programs: they are left out where a person reads along.
    """
    logger.remove()
    add_stream(logger, sys.stderr if stream is None else stream)


def add_stream(to: "loguru.Logger", stream: TextIO | None) -> None:
    """Have a logger write to a stream as `configure` says."""
    if stream is None:
        # Python's stand-in for a standard error that was closed before the start.
        return
    terminal = stream.isatty()

    def wanted(record: "Record") -> bool:
        if record["extra"].get(_FILE_ONLY):
            return False
        return not (terminal and record["level"].name in _EXTRA_LEVELS)

    to.add(stream, filter=wanted, **_OPTIONS)


def mark_lines(mark: str) -> None:
    """Put `[mark]` before each message, but for lines that are read by programs."""

    def patch(record: "Record") -> None:
        if record["level"].name not in _EXTRA_LEVELS:
            record["message"] = f"[{mark}] {record['message']}"

    logger.configure(patcher=patch)


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append all lines to a file too, and the error that ends it, if one does.

    A disk that is full takes no lines; nothing else comes of that.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("ab", buffering=0) as file:

        def write(line: str) -> None:
            with contextlib.suppress(OSError):
                file.write(line.encode(errors="backslashreplace"))

        handler = logger.add(write, colorize=False, **_OPTIONS)
        try:
            yield
        except Exception as error:
            # The code that catches it tells the terminal.
            expected = isinstance(error, TigerflowError)
            quiet = logger.bind(**{_FILE_ONLY: True}).opt(exception=not expected)
            quiet.error("{}", error)
            raise
        finally:
            logger.remove(handler)


__all__ = [
    "METRICS",
    "add_stream",
    "configure",
    "log_file",
    "logger",
    "make_logger",
    "mark_lines",
]
