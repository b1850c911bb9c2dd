"""Serve files with a task: setup once, each file, teardown once.

Where the files come from, a directory or a dispatcher, is the business of the source.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, cast

from tigerflow.errors import StorageError
from tigerflow.log import logger
from tigerflow.shortage import in_thread
from tigerflow.tasks.base import Task, TaskKind, has_method
from tigerflow.tasks.children import TaskCall, TaskSteps
from tigerflow.tasks.context import SetupContext
from tigerflow.tasks.error_file import ErrorRecord
from tigerflow.tasks.execution import Attempt, Batch, Pairs
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.printed import PrintRecorder
from tigerflow.tasks.returned import check_has_run, check_is_finished
from tigerflow.tasks.strays import Strays


class JobSource(Protocol):
    """Hands out files and takes back what became of them."""

    def batch(self, limit: int) -> Sequence[FileJob]:
        """Wait for a file; return it, and of others that wait up to `limit` in all.

        None at all means that no more will come.
        """

    def stop(self) -> None:
        """Hand out no more files; from any thread."""

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback`, from any thread, as soon as no more files will come."""

    def patience_s(self) -> float | None:
        """Return how long files in flight may still take; None is for ever."""

    def started(self, job: FileJob) -> None:
        """Note that the task's `run` is about to be called."""

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Note that the file has its output or its `.err`."""

    def broken(self, job: FileJob, error: StorageError) -> None:
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
        batch_size: int = 1,
        timeout_s: float | None = None,
    ) -> None:
        """Serve `task` as `name`; an async one with up to `concurrency_limit` calls.

        Each call has a file, or up to `batch_size` of them if the task has `run_batch`.
        One of an async task that takes longer than `timeout_s` for each of its files is
        cancelled. That of another can be ended only from outside, with its process.
        """
        self._task = cast("Any", task)
        self._kind = task.kind
        self._name = name
        self._params = params
        self._limit = concurrency_limit
        # A module may have changed since others were told of it.
        self._batch_size = batch_size if has_method(task, "run_batch") else 1
        self._has_run = has_method(task, "run")
        self._timeout_s = timeout_s
        self._strays = Strays()

    def serve(self, source: JobSource, lifecycle: Lifecycle) -> None:
        """Set up, run the source's files until it has no more, tear down.

        What `setup` raises is raised, without a teardown. What stops the files
        (`Interrupted`, an error of the source) is raised after the teardown.
        """
        context = SetupContext(**self._params)
        with _recorded_prints(), self._strays:
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
        with TaskCall():
            returned = self._task.setup(context)
        check_has_run("setup", returned)
        context.freeze()
        try:
            lifecycle.set_up()
            while jobs := source.batch(self._batch_size):
                for some in self._calls(jobs):
                    self._process(context, source, some)
        finally:
            lifecycle.shutting_down()
            with TaskCall():
                returned = self._task.teardown(context)
            check_has_run("teardown", returned)

    def _process(
        self, context: SetupContext, source: JobSource, jobs: Sequence[FileJob]
    ) -> None:
        batch = self._start(source, jobs)
        try:
            with batch.attempt() as pairs:
                with TaskCall():
                    returned = self._call(context, pairs)
                batch.returned = self._checked(pairs, returned)
                # With it go what may be its last references to open files.
                del returned
                batch.sync()
        except StorageError as error:
            _tell(source, batch, error)
        else:
            for job in _tell(source, batch):
                self._process(context, source, [job])

    def _start(self, source: JobSource, jobs: Sequence[FileJob]) -> Batch:
        for job in jobs:
            source.started(job)
        return Batch(self._name, jobs, self._strays)

    def _calls(self, jobs: Sequence[FileJob]) -> Iterator[Sequence[FileJob]]:
        """Yield the files of each call."""
        for start in range(0, len(jobs), self._batch_size):
            yield jobs[start : start + self._batch_size]

    def _is_batch(self, pairs: Pairs) -> bool:
        return len(pairs) > 1 or not self._has_run

    def _checked(self, pairs: Pairs, returned: object) -> object:
        """Return what a call says of its files: that of `run` only that it is over."""
        if self._is_batch(pairs):
            return returned
        check_is_finished(returned)
        return None

    def _call(self, context: SetupContext, pairs: Pairs) -> Any:
        if self._is_batch(pairs):
            return self._task.run_batch(context, pairs)
        return self._task.run(context, *pairs[0])

    async def _serve_async(
        self,
        context: SetupContext,
        source: JobSource,
        lifecycle: Lifecycle,
    ) -> None:
        lifecycle.setting_up()
        check_has_run("setup", await TaskSteps(self._task.setup(context)))
        context.freeze()
        try:
            lifecycle.set_up()
            await self._run_concurrently(context, source)
        finally:
            lifecycle.shutting_down()
            check_has_run("teardown", await TaskSteps(self._task.teardown(context)))

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
            jobs = await in_thread(source.batch, self._batch_size)
            if not jobs:
                return
            task = asyncio.create_task(self._process_all(context, source, jobs))
            in_flight.add(task)
            task.add_done_callback(release)

    async def _process_all(
        self, context: SetupContext, source: JobSource, jobs: Sequence[FileJob]
    ) -> None:
        for some in self._calls(jobs):
            await self._process_async(context, source, some)

    async def _process_async(
        self, context: SetupContext, source: JobSource, jobs: Sequence[FileJob]
    ) -> None:
        batch = self._start(source, jobs)
        try:
            with batch.attempt() as pairs:
                returned = await self._call_in_time(context, pairs)
                batch.returned = self._checked(pairs, returned)
                del returned
                # Others in flight need not wait for the disk.
                await in_thread(batch.sync)
        except StorageError as error:
            _tell(source, batch, error)
        else:
            for job in _tell(source, batch):
                await self._process_async(context, source, [job])

    async def _call_in_time(self, context: SetupContext, pairs: Pairs) -> Any:
        timeout_s = self._timeout_s and self._timeout_s * len(pairs)
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                # What cancels the task that it runs in cancels the call, not us.
                call = asyncio.create_task(_outcome(self._call(context, pairs)))
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


def _tell(
    source: JobSource, batch: Batch, error: StorageError | None = None
) -> Sequence[FileJob]:
    """Tell the source what became of the files; return those to be run one by one."""
    if batch.raised is not None:
        reason = ErrorRecord.from_exception("", "", batch.raised).summary
        logger.warning(
            "run_batch failed for {} files, which are run one by one: {}",
            len(batch.jobs),
            reason,
        )
        return batch.jobs
    for this in batch.settled:
        source.finished(this.job, this)
    if error is not None:
        for job in batch.jobs[len(batch.settled) :]:
            source.broken(job, error)
    return ()


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
