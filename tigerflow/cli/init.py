"""`tigerflow init`."""

import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from tigerflow._assets import asset
from tigerflow.cli._errors import report_errors
from tigerflow.errors import ExitCode, TigerflowError
from tigerflow.files import discard
from tigerflow.naming import temporary_name

#: What is written; the pipeline file comes last, after everything that it names.
_PARTS = ("inputs", "tasks", "pipeline-slurm.yaml", "pipeline.yaml")


class StartError(TigerflowError):
    """The directory that was named cannot be written to."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{str(path)!r}: {reason}; nothing was written")


def init_command(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Directory for the pipeline"),
    ],
) -> None:
    """Create a small pipeline to start from."""
    with report_errors():
        try:
            _check(directory)
            _write(directory)
        except OSError as error:
            raise StartError(directory, error.strerror or str(error)) from error
    run = "tigerflow watch --once pipeline.yaml inputs results"
    place, enter = "this directory", ""
    if directory != Path():
        place, enter = f"{directory}/", f"  cd {shlex.quote(str(directory))}\n"
    typer.echo(
        f"Created a pipeline in {place}. Now run:\n"
        f"{enter}  {run}\n  tigerflow report results"
    )


def _check(directory: Path) -> None:
    for path in (directory, *directory.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise StartError(path, "is not a directory")
    there = [part for part in _PARTS if os.path.lexists(directory / part)]
    if there:
        listed = " and ".join(filter(None, [", ".join(there[:-1]), there[-1]]))
        raise StartError(directory, f"has {listed} already; choose another directory")


def _write(directory: Path) -> None:
    """Write everything under another name first, so that it appears as a whole."""
    is_new = not directory.exists()
    if is_new:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = directory.parent / temporary_name(directory.name)
    else:
        temporary = directory / temporary_name("starter")
    moved: list[Path] = []
    try:
        _copy(asset("starter/pipeline.yaml").parent, temporary)
        if is_new:
            temporary.rename(directory)
        else:
            _move(temporary, directory, moved)
    except BaseException:
        for path in moved:
            discard(path)
        raise
    finally:
        discard(temporary)


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for part in _PARTS:
        if (source / part).is_dir():
            _copy_files((source / part).iterdir(), target / part)
        else:
            shutil.copyfile(source / part, target / part)


def _copy_files(files: Iterable[Path], target: Path) -> None:
    target.mkdir()
    for path in files:
        # A checkout may have a __pycache__ here.
        if path.is_file():
            shutil.copyfile(path, target / path.name)


def _move(source: Path, target: Path, moved: list[Path]) -> None:
    for part in _PARTS:
        (source / part).rename(target / part)
        moved.append(target / part)
