"""Loguru, set up on request: one event, one line, on stderr."""

import sys
from typing import TYPE_CHECKING, TextIO

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

#: Levels of the Dask-based TigerFlow that its tools and task packages look for.
METRICS = "METRICS"
_EXTRA_LEVELS = {"INIT": 25, METRICS: 25}


def add_levels() -> None:
    """Register the extra levels once; loguru refuses to change a known number."""
    for name, number in _EXTRA_LEVELS.items():
        try:
            logger.level(name)
        except ValueError:
            logger.level(name, no=number, color="<dim>")


def configure(stream: TextIO | None = None) -> None:
    """Log as `YYYY-MM-DD HH:MM:SS | LEVEL    | message`, coloured on a terminal.

    METRICS lines are for programs: they are left out where a person reads along.
    """
    stream = sys.stderr if stream is None else stream
    add_levels()
    logger.remove()
    if stream is None:
        # Python's stand-in for a standard error that was closed before the start.
        return
    terminal = stream.isatty()

    def wanted(record: "Record") -> bool:
        return not (terminal and record["level"].name in _EXTRA_LEVELS)

    logger.add(
        stream,
        format="{time:YYYY-MM-DD HH:mm:ss} | <level>{level: <8}</level> | {message}",
        filter=wanted,
        level="INFO",
        # A line is written before the next thing happens, so that a crash loses none.
        enqueue=False,
        backtrace=False,
        diagnose=False,
    )


__all__ = ["METRICS", "add_levels", "configure", "logger"]
