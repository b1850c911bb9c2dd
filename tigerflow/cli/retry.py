"""`tigerflow retry`."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.cli._completion import complete_failed, complete_task_of_run
from tigerflow.cli._errors import report_errors
from tigerflow.errors import (
    ExitCode,
    OutputDirectoryError,
    TigerflowError,
    did_you_mean,
)
from tigerflow.naming import files_word, printable
from tigerflow.report.reading import read_report
from tigerflow.report.run_report import Failure, RunReport
from tigerflow.rundir.layout import INPUT_LINK, STATE
from tigerflow.rundir.lock import find_running
from tigerflow.rundir.requests import Request, ask, is_answered

#: Seconds for a running service to answer, and between looks for its answer.
ANSWER_S = 15.0
LOOK_S = 0.2


class UnknownTaskOfRunError(TigerflowError):
    """The pipeline has no task with this name."""

    exit_code = ExitCode.USAGE

    def __init__(self, name: str, known: Sequence[str]) -> None:
        hint = did_you_mean(name, known) or f"; its tasks are {', '.join(known)}"
        super().__init__(f"The pipeline has no task {name!r}{hint}")


class NotFailedError(TigerflowError):
    """A file that was named has not failed."""

    exit_code = ExitCode.USAGE

    def __init__(self, name: str, task: str | None, meant: Sequence[str]) -> None:
        where = f" in task {task!r}" if task else ""
        hint = did_you_mean(name, meant)
        super().__init__(f"No file {name!r} has failed{where}{hint}")


class CannotRetryError(TigerflowError):
    """A file that was named has failed, and cannot be retried."""

    exit_code = ExitCode.USAGE

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.origin!r} cannot be retried: {_obstacle(failure)}")


def retry_command(
    output_dir: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT_DIR", help="Directory with the results"),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Input files to retry; by default, all that failed",
            autocompletion=complete_failed,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Retry only files that failed in this task",
            autocompletion=complete_task_of_run,
        ),
    ] = None,
    *,
    forget_missing: Annotated[
        bool,
        typer.Option(
            "--forget-missing",
            help="Remove the errors of files whose input no longer exists",
        ),
    ] = False,
) -> None:
    """Retry failed files."""
    with report_errors():
        report = read_report(output_dir)
        failures = list(_failures(report, task))
        if files:
            inputs = report.output_dir / INPUT_LINK
            chosen = [
                each for name in files for each in _named(name, failures, task, inputs)
            ]
        else:
            chosen = failures
        gone = [each for each in chosen if forget_missing and _is_gone(each)]
        if forget_missing:
            chosen = [each for each in chosen if not _is_gone(each)]
        for each in chosen if files else ():
            if _obstacle(each) is not None:
                raise CannotRetryError(each)
        going = [each for each in chosen if _obstacle(each) is None]
        state = report.output_dir / STATE
        number = _remove([*going, *gone], state)
        when = "" if number is None else _when(state, number)
        for name in dict.fromkeys(each.origin for each in gone):
            typer.echo(
                f"Removed the error of {printable(name)}: its input no longer exists"
            )
        if chosen or not gone:
            for line in _summary(chosen, when):
                typer.echo(line)


def _failures(report: RunReport, task: str | None) -> Iterator[Failure]:
    known = [each.name for each in report.tasks]
    if task is not None and task not in known:
        raise UnknownTaskOfRunError(task, known)
    for each in report.tasks:
        if task in {None, each.name}:
            yield from each.failures


def _named(
    name: str, failures: list[Failure], task: str | None, inputs: Path
) -> list[Failure]:
    """Return the failures of a file, given by its name, its path or its stem."""
    last = Path(name).name
    found = [each for each in failures if each.origin == last]
    found = found or [each for each in failures if each.stem == last]
    if not found:
        # Path.exists() would raise for a name that is too long.
        is_there = os.path.exists(inputs / last)  # noqa: PTH110
        meant = [] if is_there else [each.origin for each in failures]
        raise NotFailedError(name, task, meant)
    return found


def _is_gone(failure: Failure) -> bool:
    return failure.problem is None and not failure.has_input


def _obstacle(failure: Failure) -> str | None:
    if failure.problem is not None:
        return f"{failure.problem}; rename it"
    if failure.has_input:
        return None
    return "its input file no longer exists; --forget-missing removes the error"


def _remove(failures: list[Failure], state: Path) -> str | None:
    """Remove the `.err` files, so that the files are undone; then ask the service.

    Returns:
        The number of the request; None if there are no failures.
    """
    if not failures:
        return None
    try:
        for each in failures:
            each.path.unlink(missing_ok=True)
        # Even if none seems to run: one that is starting may have listed the errors.
        return ask(state, Request.RETRY)
    except OSError as error:
        raise OutputDirectoryError(state, error) from error


def _when(state: Path, number: str) -> str:
    """Return when the files of a request will be processed, and by which pipeline."""
    never, end = threading.Event(), time.monotonic() + ANSWER_S
    while (holder := find_running(state)) is not None:
        if is_answered(state, number):
            return f"by the running pipeline (pid {holder.pid})"
        if time.monotonic() >= end:
            return (
                f"at the next run at the latest: the running pipeline (pid "
                f"{holder.pid} on {holder.host}) has not answered for {ANSWER_S:g} s"
            )
        never.wait(LOOK_S)
    return "at the next run"


def _summary(chosen: list[Failure], when: str) -> Iterator[str]:
    if not chosen:
        yield "No file has failed"
        return
    count = len({each.origin for each in chosen if _obstacle(each) is None})
    left = {each.origin: _obstacle(each) for each in chosen}
    for origin, obstacle in left.items():
        if obstacle is not None:
            yield f"Not retried: {printable(origin)}: {obstacle}"
    if not count:
        yield "No file will be retried"
    else:
        yield f"{count} {files_word(count)} will be processed again {when}"
