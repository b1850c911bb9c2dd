"""How files become calls of a task's `run` or `run_batch`."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from tigerflow.errors import StorageError
from tigerflow.log import logger
from tigerflow.tasks.base import Task, has_method
from tigerflow.tasks.context import SetupContext
from tigerflow.tasks.error_file import ErrorRecord
from tigerflow.tasks.execution import Batch, Pairs
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.job_source import JobSource
from tigerflow.tasks.returned import check_is_finished
from tigerflow.tasks.strays import Strays


class TaskCalls:
    """The calls of one task, in one process."""

    def __init__(self, task: type[Task], name: str, batch_size: int) -> None:
        """Call `task`, which is named `name`, with at most `batch_size` files."""
        self.task = cast("Any", task)
        #: Notices the files that runs leave beside their outputs.
        self.strays = Strays()
        # The module may have changed since the pipeline was checked.
        self.batch_size = batch_size if has_method(task, "run_batch") else 1
        self._name = name
        self._has_run = has_method(task, "run")

    def split(self, jobs: Sequence[FileJob]) -> Iterator[Sequence[FileJob]]:
        """Yield the files of each call."""
        for start in range(0, len(jobs), self.batch_size):
            yield jobs[start : start + self.batch_size]

    def start(self, source: JobSource, jobs: Sequence[FileJob]) -> Batch:
        """Tell the source that these files start; return their batch."""
        for job in jobs:
            source.started(job)
        return Batch(self._name, jobs, self.strays)

    def call(self, context: SetupContext, pairs: Pairs) -> Any:
        """Call the task; an async task returns a coroutine."""
        if self._is_batch(pairs):
            return self.task.run_batch(context, pairs)
        return self.task.run(context, *pairs[0])

    def checked(self, pairs: Pairs, returned: object) -> object:
        """Return what `run_batch` says about its files; of `run`, only check the end.

        Raises:
            UnfinishedResultError: `run` returned something that still has to run.
        """
        if self._is_batch(pairs):
            return returned
        check_is_finished(returned)
        return None

    def _is_batch(self, pairs: Pairs) -> bool:
        return len(pairs) > 1 or not self._has_run


def report(
    source: JobSource, batch: Batch, error: StorageError | None = None
) -> Sequence[FileJob]:
    """Report each file's result to the source; return the files to run one by one."""
    if batch.raised is not None:
        reason = ErrorRecord.from_exception("", "", batch.raised).summary
        logger.warning(
            "run_batch failed for {} files, so they are run one by one: {}",
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
