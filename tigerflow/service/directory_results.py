"""What exists of the results of a task by itself, and of which content of each input.

Results lie in one directory, perhaps beside those of other tasks. A file is done when
its output, or the `.err` of this task, exists and is not older than the file. One that
has another size or date than when it was processed is undone.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tigerflow.log import logger
from tigerflow.rundir.layout import signatures_file
from tigerflow.rundir.signatures import Signature, Signatures, signature_of
from tigerflow.service.directories import Directories
from tigerflow.service.inbox import Arrival
from tigerflow.tasks.error_file import is_error_of
from tigerflow.tasks.file_job import FileJob

#: For how long after it has written a file a copying tool may set its date, in ns.
COPYING_NS = 10 * 1_000_000_000


class DirectoryResults:
    """The results of one task in one directory."""

    def __init__(self, directories: Directories, task: str) -> None:
        """Look at what `task` has made; its inputs' signatures are kept beside it."""
        self._directories = directories
        self._task = task
        self._signatures = Signatures(
            directories.output_dir / signatures_file(directories.output_ext)
        )
        #: By `.err`: its date, and whether it is of this task.
        self._errors: dict[Path, tuple[int, bool]] = {}
        #: Names of files that this task has failed on since it was started.
        self._failed: set[str] = set()
        # Only files whose time stamps would make them look undone forever.
        self._done_anyway: dict[str, Signature] = {}

    def is_undone(self, arrival: Arrival) -> bool:
        """Tell whether a file is to be processed."""
        name, signature = arrival.name, arrival.signature
        if self._done_anyway.get(name) == signature:
            return False
        if self._is_other(name, signature):
            return True
        dates = self._dates(self._directories.job(name))
        return all(date < signature[2] for date in dates)

    def record(self, arrivals: Iterable[Arrival]) -> None:
        """Record of which content files are done."""
        self._signatures.put({each.name: each.signature[1:] for each in arrivals})

    def take(self, job: FileJob) -> Signature | None:
        """Record of which content the results of a file will be; older ones are not.

        Return its signature; None if the file is gone.
        """
        status = _stat(job.input)
        if status is None:
            return None
        signature = signature_of(status)
        if self._is_other(job.input.name, signature):
            self._make_older(job, signature[2])
        self._signatures.put({job.input.name: signature[1:]})
        return signature

    def settle(self, job: FileJob, taken: Signature, failure: str | None) -> bool:
        """Record that a file is done, or failed for the reason `failure`.

        Return False, and date its results before it, if it has changed since it was
        taken. One whose result can never be newer than itself is done nevertheless.
        """
        name, now = job.input.name, _stat(job.input)
        if failure is not None:
            self._failed.add(name)
        if now is not None and _has_new_content(taken, now):
            self._make_older(job, now.st_mtime_ns)
            return False
        try:
            newest = max(self._dates(job))
        except ValueError:
            # Neither could be stored: a name that is too long for an `.err`.
            if failure is not None:
                logger.error(
                    "Cannot write an '.err', its name is too long: {}", failure
                )
            newest = 0
        if newest < taken[2]:
            self._done_anyway[name] = taken
        if now is not None:
            # Its date may have been set since it was taken.
            self._signatures.put({name: signature_of(now)[1:]})
        return True

    def _is_other(self, name: str, signature: Signature) -> bool:
        """Tell whether a file was last processed with another size or date."""
        noted = self._signatures.get(name)
        return noted is not None and noted != signature[1:]

    def _dates(self, job: FileJob) -> Iterator[int]:
        """Return the dates of a file's results, without the error of another task."""
        output, error = _stat(job.output), _stat(job.error)
        if output is not None and stat.S_ISREG(output.st_mode):
            yield output.st_mtime_ns
        if error is not None and stat.S_ISREG(error.st_mode):
            date_ns = error.st_mtime_ns
            known = self._errors.get(job.error)
            if known is None or known[0] != date_ns:
                known = date_ns, is_error_of(job, self._task)
                self._errors[job.error] = known
            # Another that fails on it as well writes its own in the place of ours.
            if known[1] or job.input.name in self._failed:
                yield date_ns

    def _make_older(self, job: FileJob, than_ns: int) -> None:
        """Mark a result as one of an earlier content, also for the next start."""
        paths = [job.output]
        if is_error_of(job, self._task):
            paths.append(job.error)
        for path in paths:
            try:
                os.utime(path, ns=(than_ns - 1, than_ns - 1))
            except OSError:
                # That of a colleague, who alone may date it.
                with contextlib.suppress(OSError):
                    path.unlink()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _has_new_content(before: Signature, now: os.stat_result) -> bool:
    inode, size, mtime_ns = signature_of(now)
    if (inode, size) != before[:2] or mtime_ns > before[2]:
        return True
    # Copying tools set an older date once they have closed the file: no new content.
    return mtime_ns < before[2] and now.st_ctime_ns - before[2] > COPYING_NS
