"""What a task's methods return counts only when nothing of it is left to do."""

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pytest

from tigerflow.errors import TaskDefinitionError, UnfinishedResultError
from tigerflow.tasks import LocalAsyncTask, LocalTask
from tigerflow.tasks.base import check_definition
from tigerflow.tasks.returned import check_has_run, check_is_finished


def generator():
    yield


async def coroutine():
    pass


async def async_generator():
    yield


class Awaitable:
    def __await__(self):
        yield


def failed_future():
    future = Future()
    future.set_exception(LookupError("in the future"))
    return future


def done_future():
    future = Future()
    future.set_result(1)
    return future


@pytest.mark.parametrize("method", ["setup", "run", "teardown"])
@pytest.mark.parametrize("make", [generator, coroutine, async_generator])
def test_a_method_that_returns_code_that_has_not_run_is_refused(method, make):
    with pytest.raises(UnfinishedResultError) as error:
        check_has_run(method, make())

    assert str(error.value).startswith(
        f"{method} returned a value of type {make.__name__}, whose code has not run; "
    )


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            generator(),
            (
                "run returned a value of type generator, whose code has not run; "
                "remove the 'yield', or loop over it"
            ),
        ),
        (
            map(print, ()),
            (
                "run returned a value of type map, which nothing has looped over; "
                "loop over it"
            ),
        ),
        (
            filter(print, ()),
            (
                "run returned a value of type filter, which nothing has looped over; "
                "loop over it"
            ),
        ),
        (
            Future(),
            (
                "run returned a value of type Future, which is not done; "
                "wait for its result"
            ),
        ),
        (
            Awaitable(),
            (
                "run returned a value of type Awaitable, which nothing has awaited; "
                "await it in a LocalAsyncTask, or run it with asyncio.run()"
            ),
        ),
    ],
)
def test_unfinished_results_are_refused_with_a_fix(returned, sentence):
    with pytest.raises(UnfinishedResultError) as error:
        check_is_finished(returned)

    assert str(error.value) == sentence


def test_an_asyncio_task_that_is_not_done_is_refused():
    async def run():
        task = asyncio.create_task(coroutine())
        with pytest.raises(UnfinishedResultError, match="Task, which is not done"):
            check_is_finished(task)
        await task
        check_is_finished(task)

    asyncio.run(run())


def test_a_process_that_still_runs_is_refused_until_its_end():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process, pytest.raises(UnfinishedResultError, match="Popen, which is still"):
        check_is_finished(process)

    check_is_finished(process)


def test_threads_that_are_still_at_work_are_refused_until_their_end():
    going_on = threading.Event()
    thread = threading.Thread(target=going_on.wait)
    thread.start()
    with ThreadPool(1) as pool:
        result = pool.apply_async(going_on.wait)
        for returned in (thread, result):
            with pytest.raises(UnfinishedResultError, match="which is still at work"):
                check_is_finished(returned)
        going_on.set()
        thread.join()
        result.wait()

        check_is_finished(thread)
        check_is_finished(result)


def test_lazy_iterators_are_refused_with_and_without_a_pool():
    with ThreadPool(1) as pool:
        for lazy in (itertools.starmap(print, ()), pool.imap(print, ()), zip(())):
            with pytest.raises(UnfinishedResultError, match="nothing has looped over"):
                check_is_finished(lazy)


@pytest.mark.parametrize("make", [list, tuple, set])
def test_unfinished_results_in_a_collection_are_refused(make):
    with pytest.raises(UnfinishedResultError, match="Future, which is not done"):
        check_is_finished(make([done_future(), Future()]))


def test_an_exception_that_run_returns_is_raised():
    with pytest.raises(LookupError, match="returned"):
        check_is_finished(LookupError("returned"))


def test_the_exception_of_a_future_is_raised():
    with pytest.raises(LookupError, match="in the future"):
        check_is_finished(failed_future())


@pytest.mark.parametrize(
    "returned",
    [
        None,
        5,
        "text",
        [],
        {"a": 1},
        iter([1]),
        SimpleNamespace(wait=1),
        done_future(),
        sqlite3.connect(":memory:").execute("select 1"),
        sys.stdout,
        generator,
    ],
)
def test_other_results_of_run_have_no_meaning(returned):
    check_is_finished(returned)


@pytest.mark.parametrize("method", ["setup", "run", "teardown"])
@pytest.mark.parametrize("base", [LocalTask, LocalAsyncTask])
def test_generator_methods_are_refused(method, base):
    def body(*_):
        yield

    async def run(*_):
        pass

    async def async_body(*_):
        yield

    asynchronous = base is LocalAsyncTask
    members = {"run": run if asynchronous else print}
    members[method] = async_body if asynchronous else body
    task = type("Work", (base,), {key: staticmethod(members[key]) for key in members})

    with pytest.raises(TaskDefinitionError) as error:
        check_definition(task)

    assert str(error.value) == (
        f"Work.{method} has a 'yield', so calling it runs nothing; remove the 'yield'"
    )
