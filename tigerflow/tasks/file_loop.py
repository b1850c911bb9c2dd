"""The loop over a task's files: setup once, run for each file, teardown once."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

from tigerflow.errors import StorageError
from tigerflow.tasks.async_loop import AsyncLoop
from tigerflow.tasks.base import Task, TaskKind
from tigerflow.tasks.calls import TaskCalls, report
from tigerflow.tasks.children import TaskCall
from tigerflow.tasks.context import SetupContext
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.job_source import JobSource, Lifecycle
from tigerflow.tasks.printed import PrintRecorder
from tigerflow.tasks.returned import check_has_run


class FileLoop:
    """One task's loop over files, in one process."""

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
        """Process files with `task`, named `name`; an async task has concurrent calls.

        Args:
            task: the class.
            name: the task's name in messages and `.err` files.
            params: values for the context, by field name.
            concurrency_limit: the most calls at once; only async tasks have several.
            batch_size: the most files in one call, if the task has `run_batch`.
            timeout_s: seconds that a call may take for each of its files; None means no
                limit. Only a call of an async task can be cancelled here: any other has
                to be ended from outside, with its process.
        """
        self._calls = TaskCalls(task, name, batch_size)
        self._kind = task.kind
        self._params = params
        self._async_loop = AsyncLoop(self._calls, concurrency_limit, timeout_s)

    def serve(self, source: JobSource, lifecycle: Lifecycle) -> None:
        """Set up, run the source's files until it has no more, tear down.

        When `setup` raises, there is no teardown. Whatever stops the files, such as
        `Interrupted` or an error of the source, is raised after the teardown.
        """
        context = SetupContext(**self._params)
        with _recorded_prints(), self._calls.strays:
            if self._kind is TaskKind.LOCAL_ASYNC:
                asyncio.run(self._async_loop.serve(context, source, lifecycle))
            else:
                self._serve(context, source, lifecycle)

    def kill(self) -> None:
        """Do nothing: nothing outlives this process."""

    def _serve(
        self, context: SetupContext, source: JobSource, lifecycle: Lifecycle
    ) -> None:
        task = self._calls.task
        lifecycle.setting_up()
        with TaskCall():
            returned = task.setup(context)
        check_has_run("setup", returned)
        context.freeze()
        try:
            lifecycle.set_up()
            while jobs := source.batch(self._calls.batch_size):
                for some in self._calls.split(jobs):
                    self._process(context, source, some)
        finally:
            lifecycle.shutting_down()
            with TaskCall():
                returned = task.teardown(context)
            check_has_run("teardown", returned)

    def _process(
        self, context: SetupContext, source: JobSource, jobs: Sequence[FileJob]
    ) -> None:
        batch = self._calls.start(source, jobs)
        try:
            with batch.attempt() as pairs:
                with TaskCall():
                    returned = self._calls.call(context, pairs)
                batch.returned = self._calls.checked(pairs, returned)
                # This may drop the last references to open files.
                del returned
                batch.sync()
        except StorageError as error:
            report(source, batch, error)
        else:
            for job in report(source, batch):
                self._process(context, source, [job])


@contextlib.contextmanager
def _recorded_prints() -> Iterator[None]:
    out, err = sys.stdout, sys.stderr
    sys.stdout = cast("Any", PrintRecorder(out))
    sys.stderr = cast("Any", PrintRecorder(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
