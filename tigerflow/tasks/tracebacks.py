"""A task's exception as text: its class, its message, its traceback.

Classes and messages are the task's own, and may raise whatever they like when they are
asked for their text; nothing here does.
"""

import asyncio
import os
import traceback
from pathlib import Path
from types import TracebackType

from tigerflow.naming import printable


def class_name(exception: BaseException) -> str:
    """Return the name of its class."""
    # Not by the attribute, for which a metaclass may have a property.
    return printable(type.__dict__["__name__"].__get__(type(exception)))


def message_of(exception: BaseException) -> str:
    """Return its message, or a text that says it has none which can be printed."""
    try:
        # As a plain str, whatever else it returns.
        return str.__str__(str(exception))
    except BaseException:  # noqa: BLE001 -- an exception may fail to print in any way
        return f"<unprintable {class_name(exception)} object>"


def format_exception(exception: BaseException) -> str:
    """Return its traceback, starting in the task's own code; empty if that has none."""
    trace = None
    try:
        trace = user_frames(exception.__traceback__)
        if trace is None and _reason(exception) is None:
            return ""
        return "".join(
            traceback.format_exception(type(exception), exception, trace),
        )
    except BaseException:  # noqa: BLE001 -- see `message_of`
        return "".join(traceback.format_tb(trace))


def _reason(exception: BaseException) -> BaseException | None:
    # Not `or`, which asks an exception for its truth.
    cause = exception.__cause__
    return exception.__context__ if cause is None else cause


# The event loop's too, between ours. By file: a task's module may have any name.
_OWN_DIRECTORIES = tuple(
    f"{directory}{os.sep}"
    for directory in (
        Path(__file__).parent,
        *(Path(__file__).parents[1] / name for name in ("cli", "workers")),
        Path(asyncio.__file__).parent,
    )
)


def user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames above the task's code; None if there is no other."""
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OWN_DIRECTORIES):
            return trace
        trace = trace.tb_next
    return None
