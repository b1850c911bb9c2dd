"""`tigerflow retry`."""

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
from tigerflow.layout import INPUT_LINK, RETRY_REQUEST
from tigerflow.naming import printable
from tigerflow.report import Failure, RunReport, read_report


class UnknownTaskOfRunError(TigerflowError):
    """The pipeline has no task of this name."""

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
    """A file that was named has failed, and would only fail again."""

    exit_code = ExitCode.USAGE

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.origin!r} cannot go again: {_obstacle(failure)}")


def retry_command(
    output_dir: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT_DIR", help="Directory of the results"),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Input files; all that failed",
            autocompletion=complete_failed,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Only files that failed in this task",
            autocompletion=complete_task_of_run,
        ),
    ] = None,
) -> None:
    """Let files that failed go again."""
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
        going = [each for each in chosen if _obstacle(each) is None]
        _remove(going, report.output_dir / RETRY_REQUEST)
        for line in _summary(report, chosen, going):
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
    """Return the failures of a file, which is given by its name, path or stem."""
    last = Path(name).name
    found = [each for each in failures if each.origin == last]
    found = found or [each for each in failures if each.stem == last]
    if not found:
        is_there = (inputs / last).exists()
        meant = [] if is_there else [each.origin for each in failures]
        raise NotFailedError(name, task, meant)
    for each in found:
        if _obstacle(each) is not None:
            raise CannotRetryError(each)
    return found


def _obstacle(failure: Failure) -> str | None:
    if failure.problem is not None:
        return f"{failure.problem}; rename it"
    return None if failure.has_input else "the input file is gone"


def _remove(failures: list[Failure], request: Path) -> None:
    """Remove the `.err` files: without one, a file is undone; then tell the service."""
    try:
        for each in failures:
            each.path.unlink(missing_ok=True)
        if failures:
            # Also when none seems to run: one that is just starting may have listed
            # the errors before.
            request.touch()
    except OSError as error:
        raise OutputDirectoryError(request.parent, error) from error


def _summary(
    report: RunReport, chosen: list[Failure], going: list[Failure]
) -> Iterator[str]:
    if not chosen:
        yield "No file has failed"
        return
    count = len({each.origin for each in going})
    left = {each.origin: _obstacle(each) for each in chosen if each not in going}
    for origin, obstacle in left.items():
        yield f"Left as it is: {printable(origin)}: {obstacle}"
    holder = report.holder
    if not count:
        yield "No file goes again"
    elif holder is None:
        yield f"{_files(count)} will be processed again at the next run"
    else:
        who = f"the running pipeline (pid {holder.pid})"
        yield f"{_files(count)} will be processed again by {who}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
