"""All errors that TigerFlow raises on purpose: each class builds its sentence.

A `TigerflowError` reaches the user as that sentence, without a traceback, and ends the
command with its `exit_code`. `PipelineError` and `OptionError` only join sentences that
`pipeline` has made. All of them are in one module, long as it is, so that the sentences
can be read, and kept alike, in one place.
"""

import errno
import os
from collections.abc import Sequence
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """How a TigerFlow command ends; a signal N ends it with 128 + N."""

    DONE = 0  # everything asked for is done
    FAILED = 1  # some files failed, or a task could not run
    USAGE = 2  # the command line or the configuration is wrong


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known word, else an empty string."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class TigerflowError(Exception):
    """The base of all errors whose message is meant for users."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class NameRuleError(TigerflowError, ValueError):
    """A name or an extension breaks the rules of `tigerflow.naming`."""

    exit_code = ExitCode.USAGE


class ReservedParamError(TigerflowError):
    """A task's Params class uses a name that the command line or context owns."""

    exit_code = ExitCode.USAGE

    def __init__(self, task: str, names: Sequence[str]) -> None:
        listed = ", ".join(repr(name) for name in sorted(names))
        super().__init__(
            f"Parameter name collision in {task}.Params: {{{listed}}} "
            "is reserved; rename it",
        )


class ParamError(TigerflowError):
    """A task's Params class, or a value given for it, cannot be used."""

    exit_code = ExitCode.USAGE


class TaskDefinitionError(TigerflowError):
    """A task class is incomplete or contradicts its kind."""


class TaskLoadError(TigerflowError):
    """A module, file or registered name does not lead to one task class."""

    exit_code = ExitCode.USAGE


class ContextFrozenError(TigerflowError, AttributeError):
    """The context was changed after setup."""

    def __init__(self, verb: str, name: str) -> None:
        super().__init__(
            f"Cannot modify frozen SetupContext: tried to {verb} {name!r}",
        )


class DirectoryMissingError(TigerflowError):
    """A directory that the user named does not exist."""

    def __init__(self, option: str, path: Path) -> None:
        super().__init__(f"{option} {str(path)!r} {absence(path)}")


def absence(path: Path) -> str:
    """Return what is wrong with a path that does not lead to a directory."""
    # Not path.exists(): it raises for a name that is too long.
    return "is not a directory" if os.path.lexists(path) else "does not exist"


class DirectoryClashError(TigerflowError):
    """Outputs would be taken for inputs, or would replace them."""

    exit_code = ExitCode.USAGE


#: Errors of a file server that does not answer, or of a disk that is coming back.
_OUTAGES = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN),
    }
)


def is_outage(error: OSError) -> bool:
    """Tell whether an error may pass by itself: nothing is full, nothing forbidden."""
    return error.errno in _OUTAGES


class StorageError(TigerflowError):
    """A directory cannot be used, whatever the file. No file is to blame."""

    def __init__(self, sentence: str, reason: OSError) -> None:
        super().__init__(sentence)
        self.is_outage = is_outage(reason)


class InputDirectoryError(StorageError):
    """Inputs cannot be read: the directory is gone, or its file server is."""

    def __init__(self, directory: Path, reason: OSError) -> None:
        why = reason.strerror or reason
        sentence = f"Cannot read input directory {str(directory)!r}: {why}"
        super().__init__(sentence, reason)
        # It may be mounted again soon.
        self.is_outage |= reason.errno == errno.ENOENT


#: The end of the message where a command ends; a service pauses instead.
START_AGAIN = ". No files were lost: fix this, then start again"


class OutputDirectoryError(StorageError):
    """Results cannot be stored: full, read-only, or gone. No file is to blame."""

    def __init__(self, directory: Path, reason: OSError) -> None:
        super().__init__(
            f"Cannot write to output directory {str(directory)!r}: "
            f"{reason.strerror or reason}{START_AGAIN}",
            reason,
        )


class TemporaryOutputMissingError(TigerflowError):
    """The `output_file` that `run` was given is no longer a file after `run`."""

    def __init__(self) -> None:
        super().__init__(
            "run removed or replaced its output_file; write to the path it was given",
        )


class StrayOutputError(TigerflowError):
    """`run` has left files beside the `output_file` that it was given."""

    def __init__(self, names: Sequence[str]) -> None:
        listed = ", ".join(repr(name) for name in names[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 -- enough to see
        super().__init__(
            f"run left {listed}{more} beside its output_file; only output_file is "
            "kept. If a library appends a suffix of its own, give it an open file, or "
            "rename what it wrote to output_file before run returns"
        )


class UnfinishedResultError(TigerflowError):
    """A method of a task has returned something that must still be run or awaited."""

    def __init__(self, method: str, returned: object, why: str, advice: str) -> None:
        kind = type(returned).__name__
        super().__init__(f"{method} returned a value of type {kind}, {why}; {advice}")


class BatchResultError(TigerflowError):
    """`run_batch` has returned a value that does not say what became of its files."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"run_batch returned {found}; it must return None, or a list with None or "
            "an exception for each pair",
        )


class PipelineError(TigerflowError):
    """A pipeline file has mistakes, one line for each."""

    exit_code = ExitCode.USAGE

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


class OptionError(TigerflowError):
    """Options of a command line cannot be used, one line for each."""

    exit_code = ExitCode.USAGE

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\nError: ".join(lines))


class WorkflowDirectoryError(TigerflowError):
    """A directory that `compile` was given cannot be used."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{str(path)!r}: {reason}")


class StaleWorkflowError(TigerflowError):
    """`compile --check` found the compiled workflow missing or out of date."""

    def __init__(self, directory: Path, files: Sequence[str]) -> None:
        super().__init__(
            f"The workflow in {str(directory)!r} is not current "
            f"({', '.join(files)}); run `tigerflow compile` again",
        )


class RehearsalError(TigerflowError):
    """TigerFlow cannot find out what would be submitted."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Cannot find out what would be submitted: {reason}")


class MissingAssetError(TigerflowError):
    """The installed package lacks a file that it ships."""

    def __init__(self, name: str, places: Sequence[Path]) -> None:
        looked = " and ".join(repr(str(place)) for place in places)
        super().__init__(f"{name!r} is missing in {looked}; install tigerflow again")


class UnknownTaskError(TigerflowError):
    """No built-in or installed task has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"Task {name!r} not found{did_you_mean(name, known) or '.'}\n"
            "Run 'tigerflow tasks list' to see available tasks.",
        )


class StagingError(TigerflowError):
    """A staging function is missing, or did something that it must not do."""

    exit_code = ExitCode.USAGE

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(f"staging function {function} {reason}; nothing was staged")


class RunningError(TigerflowError):
    """Another process works in the run directory."""

    def __init__(self, who: str) -> None:
        super().__init__(who)


class SnakemakeError(TigerflowError):
    """Snakemake cannot run at all."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Snakemake cannot run: {reason} "
            "(see .tigerflow/logs/snakemake-trial.log). "
            "No files were lost: fix this, then start again"
        )


class UnsupportedSnakemakeError(TigerflowError):
    """The Snakemake that is installed is too old or too new."""

    exit_code = ExitCode.USAGE

    def __init__(
        self, version: str, oldest: Sequence[int], too_new: Sequence[int]
    ) -> None:
        least, limit = (".".join(map(str, each)) for each in (oldest, too_new))
        super().__init__(
            f"TigerFlow needs Snakemake {least} or newer, below {limit}; {version} is "
            f"installed here. To change it: pip install 'snakemake>={least},<{limit}'"
        )


class InternalError(TigerflowError):
    """A part of a service failed in a way that nobody expected."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"Internal error: {error!r} (the log has the traceback). No files were "
            "lost: start again"
        )


class NoRunError(TigerflowError):
    """A directory was never an output directory, or does not exist."""

    def __init__(self, path: Path) -> None:
        # Not path.is_dir(): it raises for a name that is too long.
        is_there = os.path.isdir(path)  # noqa: PTH112
        found = "is not the output directory of a pipeline"
        if os.path.isdir(os.path.join(path, ".tigerflow", ".finished")):  # noqa: PTH112, PTH118
            found = (
                "is the output directory of a Dask-based TigerFlow (0.3.1 or older); "
                "start its pipeline with this version, which continues from there"
            )
        super().__init__(f"{str(path)!r} {found if is_there else absence(path)}")


class ForeignRunError(TigerflowError):
    """A service belongs to another user."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"The pipeline (pid {pid}) belongs to another user: ask them")


class PlanError(TigerflowError):
    """The plan of an output directory exists, and cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The plan {str(path)!r} cannot be read: {reason}")


class ReportFileError(TigerflowError):
    """A report cannot be written where it was asked for."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The report cannot be written to {str(path)!r}: {reason}")


class MissingLibraryError(TigerflowError):
    """An option needs a library that is installed on request only."""

    def __init__(self, library: str, extra: str, option: str) -> None:
        super().__init__(
            f"{option} needs {library!r}, which is not installed; "
            f"to get it: pip install 'tigerflow[{extra}]'"
        )
