"""`tigerflow settings`."""

import typer

from tigerflow.cli._errors import report_errors
from tigerflow.errors import ExitCode
from tigerflow.settings import ENV_FILE, show_settings, stray_variables


def settings_command() -> None:
    """Show every setting and where its value comes from."""
    with report_errors():
        shown = show_settings()
    for each in shown:
        value = f"{each.value} {each.unit}".strip()
        typer.echo(f"{each.variable}: {value} ({each.origin})")
    typer.echo(
        f"Set them in the environment, in .env, or in the file named by {ENV_FILE}."
    )
    for sentence in stray_variables():
        typer.echo(f"Warning: {sentence}", err=True)
    mistakes = [each.mistake for each in shown if each.mistake is not None]
    for mistake in mistakes:
        typer.echo(f"Error: {mistake}", err=True)
    if mistakes:
        raise typer.Exit(ExitCode.USAGE)
