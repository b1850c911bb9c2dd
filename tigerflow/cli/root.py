"""The `tigerflow` command."""

from typing import Annotated

import typer
import typer.main

from tigerflow import __version__
from tigerflow.cli import check, init, report, retry, run, settings, tasks
from tigerflow.cli import compile as _compile
from tigerflow.cli._help import with_plain_help
from tigerflow.tasks.fields import HELP_OPTIONS

app = typer.Typer(
    help="A result or a readable error for every file that arrives.",
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
    no_args_is_help=True,
)
app.add_typer(tasks.app, name="tasks")
app.command("init")(init.init_command)
app.command("run", epilog=run.EXIT_CODES)(run.run_command)
app.command("watch", epilog=run.EXIT_CODES)(run.watch_command)
app.command("stop")(run.stop_command)
app.command("report")(report.report_command)
app.command("retry")(retry.retry_command)
app.command("check", epilog=check.EXPLANATION)(check.check_command)
app.command("compile")(_compile.compile_command)
app.command("settings")(settings.settings_command)


def _print_version(value: bool) -> None:  # noqa: FBT001 -- Typer's callback
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """A result or a readable error for every file that arrives."""


def main() -> None:
    """Run the command with the process's arguments."""
    with_plain_help(typer.main.get_command(app))()
