"""Clean each text: single spaces, lower case."""

from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class Clean(LocalTask):
    """Write a text with single spaces and in lower case."""

    class Params:
        lower_case: Annotated[
            bool,
            typer.Option(help="Write all words in lower case"),
        ] = True

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        text = " ".join(input_file.read_text().split())
        if not text:
            # An exception becomes the file's .err; other files are not affected.
            raise ValueError("the text has no words")
        text = text.lower() if context.lower_case else text
        output_file.write_text(text + "\n")


# This makes the file a program, too: python tasks/clean.py --help
Clean.cli()
