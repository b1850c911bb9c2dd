"""What a task's methods return: nothing that still has to be run or waited for."""

import asyncio
import inspect
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future
from typing import Any

from tigerflow.errors import UnfinishedResultError

_AWAIT = "await it in a LocalAsyncTask, or run it with asyncio.run()"


def check_has_run(method: str, returned: Any) -> None:
    """Refuse what a method with a `yield`, or one that is `async`, returns unrun.

    Raises:
        UnfinishedResultError: none of its code has run.
    """
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        advice = "remove the 'yield', or loop over it"
    elif inspect.iscoroutine(returned):
        # Otherwise Python warns on its own, later, of a coroutine never awaited.
        returned.close()
        advice = _AWAIT
    else:
        return
    raise UnfinishedResultError(method, returned, "whose code has not run", advice)


def check_is_finished(returned: Any) -> None:
    """Refuse what `run` returns if the file's work may not be over.

    An exception is the file's failure, as where `run_batch` returns it. All else has no
    meaning, such as the count that `Path.write_text` returns. A list may have any.

    Raises:
        UnfinishedResultError: something still has to be run or waited for.
        BaseException: it was returned, or a future that was has failed with it.
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
            # Which says what has failed in it.
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
    """Tell whether an iterator does its work in the loop; that of a file does none."""
    modules = {"itertools", "multiprocessing.pool"}
    return isinstance(returned, Iterator) and type(returned).__module__ in modules


def _is_at_work(returned: Any) -> bool:
    """Tell whether a process, a thread or what a process pool returns is not over."""
    kind = type(returned)
    if hasattr(kind, "poll") and hasattr(kind, "wait"):
        return returned.poll() is None
    if hasattr(kind, "is_alive") and hasattr(kind, "join"):
        return bool(returned.is_alive())
    if hasattr(kind, "ready") and hasattr(kind, "wait"):
        return not returned.ready()
    return False
