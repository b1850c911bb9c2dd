"""What the tasks of all kinds share."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.logconfig import logger
from tigerflow.utils import SetupContext


class Params:
    ignore_case: Annotated[
        bool,
        typer.Option(help="Count upper and lower case alike"),
    ] = True


def load(context: SetupContext) -> None:
    # A file that comes with the package.
    context.vowels = set(files("letter_tasks").joinpath("vowels.txt").read_text())
    logger.info("Looking for {} vowels", len(context.vowels - {"\n"}))


def count(context: SetupContext, input_file: Path, output_file: Path) -> None:
    text = input_file.read_text()
    if context.ignore_case:
        text = text.lower()
    output_file.write_text(str(sum(letter in context.vowels for letter in text)))
