"""End the whole run when any part of it fails in a way that nobody expected.

Otherwise the other parts would wait forever for the one that is gone.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any


def end_on_faults(fail: Callable[[Exception], None]) -> asyncio.AbstractEventLoop:
    """Return the loop; from now on, `fail` gets what one of its callbacks raises."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "handle" in context and isinstance(error, Exception):
            fail(error)
        else:
            loop.default_exception_handler(context)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle)
    return loop


def begin(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task whose end by an error is a fault."""
    task = asyncio.create_task(work)
    task.add_done_callback(_surface)
    return task


def raise_in(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    """Have a loop take an error for a fault; from any thread."""
    # The loop may be over already.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_raise, error)


def _surface(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


def _raise(error: BaseException) -> None:
    raise error
