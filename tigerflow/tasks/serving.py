"""Serve files with a task: setup once, each file, teardown once.

Where the files come from, a directory or a dispatcher, is the business of the source.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from tigerflow.context import SetupContext
from tigerflow.errors import OutputDirectoryError
from tigerflow.tasks.base import Task, TaskKind
from tigerflow.tasks.execution import Attempt, FileJob, PrintRecorder, attempt


class JobSource(Protocol):
    """Hands out files and takes back what became of them."""

    def next(self) -> FileJob | None:
        """Wait for a file; None means that no more will come."""

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback`, from any thread, as soon as no more files will come."""

    def patience_s(self) -> float | None:
        """Return how long files in flight may still take; None is for ever."""

    def started(self, job: FileJob) -> None:
        """Note that the task's `run` is about to be called."""

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Note that the file has its output or its `.err`."""

    def broken(self, job: FileJob, error: OutputDirectoryError) -> None:
        """Note that the storage failed; the file is still undone."""


class Lifecycle(Protocol):
    """What is told about the task itself; `serve` calls each at most once, in order."""

    def setting_up(self) -> None:
        """Note that `setup` is about to be called."""

    def set_up(self) -> None:
        """Note that `setup` has returned."""

    def shutting_down(self) -> None:
        """Note that no more files will be run and `teardown` is about to be called."""


class TaskServer:
    """One process's service of one task."""

    def __init__(
        self,
        task: type[Task],
        name: str,
        params: dict[str, Any],
        concurrency_limit: int = 1,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Serve `task` as `name`; an async one with up to `concurrency_limit` files.

        A run of an async task that takes longer than `timeout_s` is cancelled. That of
        another can be ended only from outside, with its process.
        """
        self._task = cast("Any", task)
        self._kind = task.kind
        self._name = name
        self._params = params
        self._limit = concurrency_limit
        self._timeout_s = timeout_s

    def serve(self, source: JobSource, lifecycle: Lifecycle) -> None:
        """Set up, run the source's files until it has no more, tear down.

        What `setup` raises is raised, without a teardown. What stops the files
        (`Interrupted`, an error of the source) is raised after the teardown.
        """
        context = SetupContext(**self._params)
        with _recorded_prints():
            if self._kind is TaskKind.LOCAL_ASYNC:
                asyncio.run(self._serve_async(context, source, lifecycle))
            else:
                self._serve_sync(context, source, lifecycle)

    def kill(self) -> None:
        """Do nothing: what it does ends with this process."""

    def _serve_sync(
        self,
        context: SetupContext,
        source: JobSource,
        lifecycle: Lifecycle,
    ) -> None:
        lifecycle.setting_up()
        self._task.setup(context)
        context.freeze()
        try:
            lifecycle.set_up()
            while (job := source.next()) is not None:
                source.started(job)
                try:
                    with attempt(self._name, job) as this:
                        self._task.run(context, job.input, this.temporary)
                except OutputDirectoryError as error:
                    source.broken(job, error)
                else:
                    source.finished(job, this)
        finally:
            lifecycle.shutting_down()
            self._task.teardown(context)

    async def _serve_async(
        self,
        context: SetupContext,
        source: JobSource,
        lifecycle: Lifecycle,
    ) -> None:
        lifecycle.setting_up()
        await self._task.setup(context)
        context.freeze()
        try:
            lifecycle.set_up()
            await self._run_concurrently(context, source)
        finally:
            lifecycle.shutting_down()
            await self._task.teardown(context)

    async def _run_concurrently(
        self,
        context: SetupContext,
        source: JobSource,
    ) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()

        def stop() -> None:
            # A signal may come when all is over.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

        source.on_stop(stop)
        in_flight: set[asyncio.Task[None]] = set()
        fetching = asyncio.create_task(self._fetch(context, source, in_flight))
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
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _fetch(
        self,
        context: SetupContext,
        source: JobSource,
        in_flight: set[asyncio.Task[None]],
    ) -> None:
        slots = asyncio.Semaphore(self._limit)

        def release(task: asyncio.Task[None]) -> None:
            in_flight.discard(task)
            slots.release()

        while True:
            await slots.acquire()
            job = await asyncio.to_thread(source.next)
            if job is None:
                return
            task = asyncio.create_task(self._run_one(context, source, job))
            in_flight.add(task)
            task.add_done_callback(release)

    async def _run_one(
        self,
        context: SetupContext,
        source: JobSource,
        job: FileJob,
    ) -> None:
        source.started(job)
        try:
            with attempt(self._name, job) as this:
                await self._run_in_time(context, job, this.temporary)
        except OutputDirectoryError as error:
            source.broken(job, error)
        else:
            source.finished(job, this)

    async def _run_in_time(
        self,
        context: SetupContext,
        job: FileJob,
        output: Path,
    ) -> None:
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                await self._task.run(context, job.input, output)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(timeout_message(self._timeout_s)) from error


def timeout_message(timeout_s: float | None) -> str:
    """Return what an `.err` says of a run that took too long."""
    return f"run took longer than the timeout of {timeout_s:g} s"


@contextlib.contextmanager
def _recorded_prints() -> Iterator[None]:
    out, err = sys.stdout, sys.stderr
    sys.stdout = cast("Any", PrintRecorder(out))
    sys.stderr = cast("Any", PrintRecorder(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
