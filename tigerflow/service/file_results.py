"""The results of one file in the run directory: judge, date, sync and remove them.

Also writes the `.err` of a file for which Snakemake made no result.
"""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from tigerflow.engine.metadata import checksum_of, forget_record, recorded_checksum
from tigerflow.errors import OutputDirectoryError
from tigerflow.files import (
    date_not_before_ns,
    discard,
    see_gone,
    sync_directory,
)
from tigerflow.naming import ERROR_EXT, error_name, is_result_name, stem_of
from tigerflow.rundir.journal import now
from tigerflow.rundir.judgement import (
    Judgement,
    Look,
    OnDisk,
    WithoutErrors,
    judge,
    list_results,
)
from tigerflow.rundir.layout import INPUT_LINK
from tigerflow.rundir.plan import Plan
from tigerflow.service.inbox import Arrival
from tigerflow.service.ledger import StagedFile
from tigerflow.tasks.error_file import ErrorRecord, read_error, write_error
from tigerflow.tasks.file_job import FileJob
from tigerflow.unmatched import unmatched


class Results:
    """The results of the files of one run."""

    def __init__(self, plan: Plan, run_dir: Path, input_dir: Path) -> None:
        """Look at what the tasks of `plan` have made in `run_dir`."""
        self._plan = plan
        self._run_dir = run_dir
        self._input_dir = input_dir
        self._on_disk = OnDisk(run_dir)
        self._without_errors = WithoutErrors(self._on_disk)

    def stem(self, arrival: Arrival) -> str:
        """Return the stem that the file's results have."""
        return stem_of(arrival.name, self._plan.input_ext)

    def listed(self) -> Look:
        """List all results once, for many looks.

        Raises:
            OSError: a directory cannot be listed.
        """
        return list_results(self._run_dir, self._plan)

    def judge(self, arrival: Arrival, look: Look | None = None) -> Judgement:
        """Judge a file, by `look` or by what exists now."""
        stem, since_ns = self.stem(arrival), arrival.signature[2]
        return judge(self._plan, look or self._on_disk, stem, since_ns)

    def judge_without_errors(self, arrival: Arrival) -> Judgement:
        """Judge a file as if no task had failed on it."""
        return self.judge(arrival, self._without_errors)

    def are_older(self, arrival: Arrival) -> bool:
        """Tell whether the file has an output that is older than itself."""
        stem, since_ns = self.stem(arrival), arrival.signature[2]
        dates = (self._on_disk.output(task, stem) for task in self._plan.tasks)
        return any(date is not None and date < since_ns for date in dates)

    def are_of(self, arrival: Arrival) -> bool:
        """Tell whether outputs are known to be of this very content of the file.

        By Snakemake's checksums: dates say nothing of a file that was only touched, or
        copied once more.
        """
        source, stem = str(INPUT_LINK / arrival.name), self.stem(arrival)
        noted = set()
        for task in self._plan.tasks:
            if task.depends_on is not None:
                continue
            checksum = recorded_checksum(self._run_dir, task.output(stem), source)
            # An output that does not exist was not kept, or never made.
            if checksum is not None or self._on_disk.output(task, stem) is not None:
                noted.add(checksum)
        if len(noted) != 1 or None in noted:
            return False
        return noted == {checksum_of(self._input_dir / arrival.name, arrival.signature)}

    def redate(self, arrival: Arrival) -> bool:
        """Date outputs that are of the file's content no earlier than the file.

        Errors of an earlier date go: the file is tried again. False when a date cannot
        be set.
        """
        stem = self.stem(arrival)
        for path in self._plan.files_of(stem):
            try:
                if path.name == error_name(stem):
                    (self._run_dir / path).unlink()
                else:
                    date_not_before_ns(self._run_dir / path, arrival.signature[2])
            except FileNotFoundError:
                pass
            except OSError:
                return False
        return True

    def has_input(self, name: str) -> bool:
        """Tell whether an input file still exists."""
        try:
            (self._input_dir / name).stat()
        except FileNotFoundError:
            return False
        except OSError:
            # A file server that does not answer just now says nothing.
            return True
        return True

    def forget_gone(self) -> list[str]:
        """Remove the errors of input files that are gone; return the names of these."""
        gone = set()
        for task in self._plan.tasks:
            errors = self._run_dir / task.errors
            for name in _names_in(errors):
                source = name.removesuffix(ERROR_EXT) + self._plan.input_ext
                if is_result_name(name, ERROR_EXT) and not self.has_input(source):
                    with contextlib.suppress(OSError):
                        (errors / name).unlink()
                        gone.add(source)
        return sorted(gone)

    def unmatched(self) -> str | None:
        """Return a sentence on files that are no inputs, if there are only such."""
        return unmatched(self._input_dir, self._plan.input_ext)

    def see_errors(self, stems: Collection[str]) -> None:
        """Ask the file server whether the errors of these files exist."""
        for stem in stems:
            for task in self._plan.tasks:
                see_gone(self._run_dir / task.error(stem))

    def has_only_missed_input(self, file: StagedFile, found: Judgement) -> bool:
        """Tell whether tasks failed only because their input file was gone."""
        paths = (self._plan.error_path(task, file.stem) for task in found.failed)
        kinds = {read_error(self._run_dir / path).exception_type for path in paths}
        # One that is missing, or that no task has written, says nothing.
        return kinds - {""} == {FileNotFoundError.__name__}

    def sync(self, stem: str) -> None:
        """Wait until the names of a file's results are on disk.

        Raises:
            OSError: a disk refuses them.
        """
        for place in {path.parent for path in self._plan.files_of(stem)}:
            sync_directory(self._run_dir / place)

    def discard(self, stem: str, since: Collection[str] | None = None) -> None:
        """Remove a file's results: all, or those of `since` and all after."""
        for path in self._plan.files_of(stem, since):
            forget_record(self._run_dir, str(path))
            # One that cannot be removed cannot be replaced either: that will be said.
            with contextlib.suppress(OSError):
                (self._run_dir / path).unlink()

    def discard_errors(self, file: StagedFile, found: Judgement) -> None:
        """Remove the errors of the tasks that failed."""
        for task in found.failed:
            discard(self._run_dir / self._plan.error_path(task, file.stem))

    def fail(self, file: StagedFile, found: Judgement, message: str) -> str:
        """Write an `.err` for a file of which nothing is known; return its task."""
        (task, output), *_ = found.undone.items()
        name = file.arrival.name
        record = ErrorRecord(
            file=name,
            timestamp=now(),
            exception_type="NoResult",
            message=message,
            traceback="",
            task=task,
            printed="",
        )
        error = self._plan.error_path(task, file.stem)
        job = FileJob(self._input_dir / name, Path(output), error)
        with contextlib.suppress(OutputDirectoryError):
            write_error(job, record, self._run_dir)
        return task


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 -- thousands
    except OSError:
        return []
