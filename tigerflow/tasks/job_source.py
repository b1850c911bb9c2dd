"""Where the files of a task come from, and who is notified about the task itself."""

from collections.abc import Callable, Sequence
from typing import Protocol

from tigerflow.errors import StorageError
from tigerflow.tasks.execution import Attempt
from tigerflow.tasks.file_job import FileJob


class JobSource(Protocol):
    """Hands out files and takes back their results: a directory, or a dispatcher."""

    def batch(self, limit: int) -> Sequence[FileJob]:
        """Wait for a file; return it with other waiting files, at most `limit` in all.

        An empty batch means that no more files will come.
        """

    def stop(self) -> None:
        """Hand out no more files; from any thread."""

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback`, from any thread, as soon as no more files will come."""

    def patience_s(self) -> float | None:
        """Return how many seconds files in flight may still take; None for no limit."""

    def started(self, job: FileJob) -> None:
        """Note that the task's `run` is about to be called."""

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Note that the file has its output or its `.err`."""

    def broken(self, job: FileJob, error: StorageError) -> None:
        """Note that the storage failed; the file is still undone."""


class Lifecycle(Protocol):
    """Is notified about the task: each method at most once, in this order."""

    def setting_up(self) -> None:
        """Note that `setup` is about to be called."""

    def set_up(self) -> None:
        """Note that `setup` has returned."""

    def shutting_down(self) -> None:
        """Note that the last file is over and `teardown` is about to be called."""
