"""Check that what a task's methods return is not work that still has to be done."""

import asyncio
import inspect
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future
from typing import Any

from tigerflow.errors import UnfinishedResultError

_AWAIT = "await it in a LocalAsyncTask, or run it with asyncio.run()"


def check_has_run(method: str, returned: Any) -> None:
    """Check that a method has run: one with `yield` or `async` may only look like it.

    Raises:
        UnfinishedResultError: none of its code has run.
    """
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        advice = "remove the 'yield', or loop over it"
    elif inspect.iscoroutine(returned):
        # Otherwise Python warns later that the coroutine was never awaited.
        returned.close()
        advice = _AWAIT
    else:
        return
    raise UnfinishedResultError(method, returned, "whose code has not run", advice)


def check_is_finished(returned: Any) -> None:
    """Check that `run` has returned nothing that still has to be done.

    An exception, or one in a list, fails the file as if it were raised. Other values
    have no meaning, such as the count that `Path.write_text` returns.

    Raises:
        UnfinishedResultError: a returned object still has to run or be waited for.
        BaseException: it was returned, or is the exception of a returned future.
    """
    each_one = returned if isinstance(returned, list | tuple | set) else [returned]
    for each in each_one:
        _check_one(each)


def _check_one(returned: Any) -> None:
    check_has_run("run", returned)
    if isinstance(returned, BaseException):
        raise returned
    if isinstance(returned, map | filter | zip) or _is_lazy(returned):
        found, advice = "which nothing has looped over", "loop over it"
    elif isinstance(returned, Future) or asyncio.isfuture(returned):
        if returned.done():
            # This raises if it failed.
            returned.result()
            return
        found, advice = "which is not done", "wait for its result"
    elif isinstance(returned, Awaitable):
        found, advice = "which nothing has awaited", _AWAIT
    elif _is_at_work(returned):
        found, advice = "which is still at work", "wait for its end"
    else:
        return
    method = "run"
    raise UnfinishedResultError(method, returned, found, advice)


def _is_lazy(returned: Any) -> bool:
    """Tell whether an iterator works while it is looped over; a file's does not."""
    modules = {"itertools", "multiprocessing.pool"}
    return isinstance(returned, Iterator) and type(returned).__module__ in modules


def _is_at_work(returned: Any) -> bool:
    """Tell whether a process, a thread or a process pool's result is unfinished."""
    kind = type(returned)
    if hasattr(kind, "poll") and hasattr(kind, "wait"):
        return returned.poll() is None
    if hasattr(kind, "is_alive") and hasattr(kind, "join"):
        return bool(returned.is_alive())
    if hasattr(kind, "ready") and hasattr(kind, "wait"):
        return not returned.ready()
    return False
