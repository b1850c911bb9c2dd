"""Wait out a shortage of processes, threads, memory or descriptors.

It is nobody's fault and it passes, so whatever could not start is tried again.
"""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import ParamSpec, TypeVar

from tigerflow.log import logger

#: How long until something is tried again: at first, at most.
PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

_ERRNOS = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
)

#: Python has no class of its own for that.
_NO_THREAD = "can't start new thread"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def is_shortage(error: BaseException) -> bool:
    """Tell whether something failed that may work in a moment."""
    if isinstance(error, OSError):
        return error.errno in _ERRNOS
    return isinstance(error, RuntimeError) and str(error) == _NO_THREAD


def pauses() -> Iterator[float]:
    """Yield how long to wait, in seconds, before each further try."""
    pause_s = PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; wait while the system has none."""
    never = threading.Event()
    for pause_s in pauses():
        if _is_started(thread, is_first=pause_s == PAUSE_S):
            return
        never.wait(pause_s)


async def in_thread(
    function: Callable[_P, _T], *arguments: _P.args, **keywords: _P.kwargs
) -> _T:
    """Return what a function does in a thread of its own; wait for one if need be.

    Unlike `asyncio.to_thread`, which may call the function later when it has raised for
    want of a thread, so that what it takes is lost.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(setting: Callable[[], None]) -> None:
        if not result.done():
            setting()

    def call() -> None:
        try:
            setting = partial(result.set_result, function(*arguments, **keywords))
        except BaseException as error:  # noqa: BLE001 -- for whoever waits
            setting = partial(result.set_exception, error)
        # Nobody may wait any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, setting)

    thread = threading.Thread(target=call, daemon=True)
    for pause_s in pauses():
        if _is_started(thread, is_first=pause_s == PAUSE_S):
            break
        await asyncio.sleep(pause_s)
    return await result


def _is_started(thread: threading.Thread, *, is_first: bool) -> bool:
    try:
        thread.start()
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        if is_first:
            logger.warning("Cannot start a thread at the moment; trying again")
        return False
    return True
