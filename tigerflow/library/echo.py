"""Echo task - copies input to output with optional transformations."""

from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class Echo(LocalTask):
    """Copy a text file, with text before and after it, or in upper case."""

    class Params:
        """What may be changed on the way."""

        prefix: Annotated[
            str,
            typer.Option(help="Text to prepend to the content"),
        ] = ""
        suffix: Annotated[
            str,
            typer.Option(help="Text to append to the content"),
        ] = ""
        uppercase: Annotated[
            bool,
            typer.Option("--uppercase", help="Convert content to uppercase"),
        ] = False

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        """Copy one file."""
        content = input_file.read_text()
        if context.uppercase:
            content = content.upper()
        output_file.write_text(f"{context.prefix}{content}{context.suffix}")


if __name__ == "__main__":
    Echo.cli()
