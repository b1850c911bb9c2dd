"""The three kinds of task that users derive from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from tigerflow.tasks.base import Task, TaskKind
from tigerflow.tasks.context import SetupContext
from tigerflow.tasks.execution import Pairs

#: What `run_batch` returns.
BatchResults = Sequence[BaseException | None] | None

_Method = TypeVar("_Method", bound=Callable[..., object])


def _missing(function: _Method) -> _Method:
    function.__tigerflow_missing__ = True  # type: ignore[attr-defined] # read by check_definition
    return function


class _SyncTask(Task):
    @staticmethod
    def setup(context: SetupContext) -> None:
        """Prepare what all files share, once: load a model, open a connection.

        Args:
            context: has the task's parameters as attributes; add what `run` needs.
        """

    @staticmethod
    @_missing
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        """Process one file. Required, unless there is `run_batch`.

        An exception becomes the file's `.err`; other files continue. When nothing is
        written, an empty output says that the file is done.

        Args:
            context: what `setup` prepared, read-only.
            input_file: the file to read; never change it.
            output_file: where to write. It exists, empty, under a temporary name with
                the output's whole extension, and gets its final name when `run` has
                returned. A file that `run` leaves under a name that starts like it,
                such as one with a suffix appended, is removed, and the input fails.
        """

    @staticmethod
    @_missing
    def run_batch(context: SetupContext, pairs: Pairs) -> BatchResults:
        """Process several files in one call, for models that are fast on batches.

        A call gets up to `batch_size` waiting files; a single file goes to `run`, if
        there is one. When this raises, its files are run again one by one, so that only
        files fail that also fail alone. To fail single files, return a list with their
        exceptions.

        Args:
            context: what `setup` prepared, read-only.
            pairs: for each file, what `run` gets: input_file, output_file.

        Returns:
            None if every file is done, otherwise None or an exception for each pair.
        """

    @staticmethod
    def teardown(context: SetupContext) -> None:
        """Give back what `setup` took, once, after the last file.

        Args:
            context: what `setup` prepared, read-only.
        """


class LocalTask(_SyncTask):
    """One file at a time, in one process on this machine.

    So a task can use a resource that allows a single user, such as a DuckDB file.
    """

    kind: ClassVar[TaskKind] = TaskKind.LOCAL


class SlurmTask(_SyncTask):
    """Files in parallel on compute nodes; each worker has its own setup."""

    kind: ClassVar[TaskKind] = TaskKind.SLURM
    kind_options: ClassVar[frozenset[str]] = frozenset(
        {
            "max_workers",
            "cpus",
            "memory",
            "time",
            "gpus",
            "sbatch_option",
            "sbatch_options",
            "setup_command",
            "setup_commands",
            "workers_profile",
        },
    )


class LocalAsyncTask(Task):
    """Several files at once in one event loop on this machine; for I/O, such as APIs.

    All methods are coroutines. Code that blocks holds up every file in flight.
    """

    kind: ClassVar[TaskKind] = TaskKind.LOCAL_ASYNC
    kind_options: ClassVar[frozenset[str]] = frozenset({"concurrency_limit"})

    @staticmethod
    async def setup(context: SetupContext) -> None:
        """Prepare what all files share, once: open a session, read a key.

        Args:
            context: has the task's parameters as attributes; add what `run` needs.
        """

    @staticmethod
    @_missing
    async def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        """Process one file. Required, unless there is `run_batch`.

        An exception becomes the file's `.err`; other files continue. When nothing is
        written, an empty output says that the file is done.

        Args:
            context: what `setup` prepared, read-only.
            input_file: the file to read; never change it.
            output_file: where to write. It exists, empty, under a temporary name with
                the output's whole extension, and gets its final name when `run` has
                returned. A file that `run` leaves under a name that starts like it,
                such as one with a suffix appended, is removed, and the input fails.
        """

    @staticmethod
    @_missing
    async def run_batch(context: SetupContext, pairs: Pairs) -> BatchResults:
        """Process several files in one call, for models that are fast on batches.

        A call gets up to `batch_size` waiting files; a single file goes to `run`, if
        there is one. When this raises, its files are run again one by one, so that only
        files fail that also fail alone. To fail single files, return a list with their
        exceptions, such as that of `asyncio.gather(..., return_exceptions=True)`.

        Args:
            context: what `setup` prepared, read-only.
            pairs: for each file, what `run` gets: input_file, output_file.

        Returns:
            None if every file is done, otherwise None or an exception for each pair.
        """

    @staticmethod
    async def teardown(context: SetupContext) -> None:
        """Give back what `setup` took, once, after the last file.

        Args:
            context: what `setup` prepared, read-only.
        """
