"""The loop over the files of an async task: several calls at once in an event loop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tigerflow.errors import StorageError
from tigerflow.shortage import in_thread
from tigerflow.tasks.calls import TaskCalls, report
from tigerflow.tasks.children import TaskSteps
from tigerflow.tasks.context import SetupContext
from tigerflow.tasks.execution import Pairs
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.job_source import JobSource, Lifecycle
from tigerflow.tasks.returned import check_has_run


class AsyncLoop:
    """Sets up an async task, runs its files concurrently, and tears it down."""

    def __init__(
        self, calls: TaskCalls, concurrency_limit: int, timeout_s: float | None
    ) -> None:
        """Make at most `concurrency_limit` calls at once.

        A call that takes longer than `timeout_s` seconds for each of its files is
        cancelled; None means no limit.
        """
        self._calls = calls
        self._limit = concurrency_limit
        self._timeout_s = timeout_s

    async def serve(
        self, context: SetupContext, source: JobSource, lifecycle: Lifecycle
    ) -> None:
        """Process the source's files until it has no more; see `FileLoop.serve`."""
        task = self._calls.task
        lifecycle.setting_up()
        check_has_run("setup", await TaskSteps(task.setup(context)))
        context.freeze()
        try:
            lifecycle.set_up()
            await self._run_concurrently(context, source)
        finally:
            lifecycle.shutting_down()
            check_has_run("teardown", await TaskSteps(task.teardown(context)))

    async def _run_concurrently(
        self,
        context: SetupContext,
        source: JobSource,
    ) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()

        def stop() -> None:
            # A signal may arrive after the loop has ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

        source.on_stop(stop)
        in_flight: set[asyncio.Task[None]] = set()
        broken: list[BaseException] = []

        def end(task: asyncio.Task[None]) -> None:
            in_flight.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                # Nothing will answer for its files: end, so that nobody waits for that.
                broken.append(error)
                source.stop()

        fetching = asyncio.create_task(self._fetch(context, source, in_flight, end))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait(
            {fetching, stopped},
            return_when=asyncio.FIRST_COMPLETED,
        )
        fetching.cancel()
        stopped.cancel()
        if in_flight:
            await asyncio.wait(in_flight, timeout=source.patience_s())
        late = set(in_flight)
        for task in late:
            task.cancel()
        results = await asyncio.gather(fetching, *late, return_exceptions=True)
        for result in [*broken, *results]:
            if isinstance(result, Exception):
                raise result

    async def _fetch(
        self,
        context: SetupContext,
        source: JobSource,
        in_flight: set[asyncio.Task[None]],
        end: Callable[[asyncio.Task[None]], None],
    ) -> None:
        slots = asyncio.Semaphore(self._limit)

        def release(task: asyncio.Task[None]) -> None:
            end(task)
            slots.release()

        while True:
            await slots.acquire()
            jobs = await in_thread(source.batch, self._calls.batch_size)
            if not jobs:
                return
            task = asyncio.create_task(self._process_all(context, source, jobs))
            in_flight.add(task)
            task.add_done_callback(release)

    async def _process_all(
        self, context: SetupContext, source: JobSource, jobs: Sequence[FileJob]
    ) -> None:
        for some in self._calls.split(jobs):
            await self._process(context, source, some)

    async def _process(
        self, context: SetupContext, source: JobSource, jobs: Sequence[FileJob]
    ) -> None:
        batch = self._calls.start(source, jobs)
        try:
            with batch.attempt() as pairs:
                returned = await self._call_in_time(context, pairs)
                batch.returned = self._calls.checked(pairs, returned)
                del returned
                # Others in flight need not wait for the disk.
                await in_thread(batch.sync)
        except StorageError as error:
            report(source, batch, error)
        else:
            for job in report(source, batch):
                await self._process(context, source, [job])

    async def _call_in_time(self, context: SetupContext, pairs: Pairs) -> Any:
        timeout_s = self._timeout_s and self._timeout_s * len(pairs)
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                # What cancels the task that it runs in cancels the call, not us.
                call = asyncio.create_task(_outcome(self._calls.call(context, pairs)))
                returned, raised = await call
                if raised is not None:
                    raise raised
                return returned
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(timeout_message(timeout_s)) from error


async def _outcome(coroutine: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Return what a coroutine returns, and what it raises.

    An asyncio task would raise a SystemExit through the event loop.
    """
    try:
        return await TaskSteps(coroutine), None
    except BaseException as exception:  # noqa: BLE001 -- the task may raise anything
        return None, exception


def timeout_message(timeout_s: float | None) -> str:
    """Return the message of an `.err` for a run that took longer, in seconds."""
    return f"run took longer than the timeout of {timeout_s:g} s"
