"""`tigerflow report`."""

import contextlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from tigerflow.cli._completion import complete_failed, complete_sections
from tigerflow.cli._errors import report_errors
from tigerflow.cli._output import output_console
from tigerflow.cli._screen import Screen
from tigerflow.cli._story import print_stories
from tigerflow.errors import TigerflowError, did_you_mean
from tigerflow.report.as_json import SECTIONS, as_json
from tigerflow.report.file_story import read_stories, stories_json
from tigerflow.report.from_journal import read_run
from tigerflow.report.page.publish import publish

#: Seconds between two looks; a look that takes long is followed by as long a pause.
REFRESH_S = 1.0


def report_command(
    output_dir: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT_DIR", help="Directory with the results"),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Show only these files: each an input, a result or an .err, given by "
            "path, name, or name without extension",
            autocompletion=complete_failed,
        ),
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(
            "--include",
            "-i",
            metavar="SECTIONS",
            help=f"Only these sections, separated by commas: {', '.join(SECTIONS)}",
            autocompletion=complete_sections,
        ),
    ] = None,
    *,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as a web page"),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Refresh every second until Ctrl-C"),
    ] = False,
    use_json: Annotated[
        bool,
        typer.Option("--json", "-j", help="Print JSON"),
    ] = False,
) -> None:
    """Show what is done, what failed and why, and how long it took.

    With FILE, show what each task has done with that file, and why it failed.
    """
    if files:
        if watch or include is not None or html is not None:
            message = "FILE can be combined only with --json"
            raise typer.BadParameter(message)
        _tell(output_dir, files, use_json=use_json)
        return
    if watch and use_json:
        message = "--watch cannot be used with --json; run it again for a new report"
        raise typer.BadParameter(message)
    if html is not None:
        if watch or use_json or include is not None:
            message = "--html cannot be combined with others: it shows everything"
            raise typer.BadParameter(message)
        with report_errors():
            publish(output_dir, html)
        typer.echo(f"Wrote {html}")
        return
    sections = _sections(include)
    if use_json:
        _print_json(output_dir, sections)
        return
    with report_errors():
        console = output_console()
        if watch:
            _watch(output_dir, sections, console)
            return
        screen = Screen(read_run(output_dir).report, console, sections, output_dir)
        console.print(screen, crop=console.is_terminal)


def _tell(output_dir: Path, files: list[str], *, use_json: bool) -> None:
    if use_json:
        with _errors_as_json():
            stories, notes = read_stories(output_dir, files)
            values = {
                "files": stories_json(stories),
                **({"notes": notes} if notes else {}),
            }
            typer.echo(json.dumps(values, indent=2))
        return
    with report_errors():
        stories, notes = read_stories(output_dir, files)
        print_stories(stories, notes, output_dir, output_console())


@contextlib.contextmanager
def _errors_as_json() -> Iterator[None]:
    try:
        yield
    except TigerflowError as error:
        typer.echo(json.dumps({"error": str(error)}))
        sys.exit(error.exit_code)


def _sections(include: str | None) -> tuple[str, ...]:
    if include is None:
        return SECTIONS
    chosen = [word.strip().lower() for word in include.split(",") if word.strip()]
    for word in chosen:
        if word not in SECTIONS:
            hint = did_you_mean(word, SECTIONS) or f"; choose from {_LISTED}"
            message = f"--include has no section {word!r}{hint}"
            raise typer.BadParameter(message)
    return tuple(chosen) or SECTIONS


_LISTED = ", ".join(SECTIONS)


def _print_json(output_dir: Path, sections: tuple[str, ...]) -> None:
    with _errors_as_json():
        values = as_json(read_run(output_dir).report, sections)
    # In parts: of many files, the text takes more memory than all else.
    pieces = json.JSONEncoder(indent=2).iterencode(values)
    while part := "".join(itertools.islice(pieces, 10_000)):
        typer.echo(part, nl=False)
    typer.echo()


def _watch(output_dir: Path, sections: tuple[str, ...], console: Console) -> None:
    """Show a fresh report until Ctrl-C, which is the way to end it: exit code 0."""
    pause = threading.Event()
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                started = time.monotonic()
                screen = Screen(
                    read_run(output_dir).report, console, sections, output_dir
                )
                live.update(screen, refresh=True)
                pause.wait(max(REFRESH_S, time.monotonic() - started))
    except KeyboardInterrupt:
        pass
