"""Ask an API about each text."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalAsyncTask
from tigerflow.utils import SetupContext


async def answer(text: str, seconds: float) -> dict[str, object]:
    """Simulate a request to an API; write your own here."""
    await asyncio.sleep(seconds)
    return {"text": text, "letters": sum(letter.isalpha() for letter in text)}


class Ask(LocalAsyncTask):
    """Ask a (simulated) API about a text."""

    class Params:
        seconds: Annotated[
            float,
            typer.Option(help="Seconds until the API answers", min=0),
        ] = 0.2

    @staticmethod
    async def setup(context: SetupContext) -> None:
        # Runs once, before the first file: open a session, read a key.
        context.service = answer

    @staticmethod
    async def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        # While this file waits for its answer, other files are processed.
        text = input_file.read_text().strip()
        found = await context.service(text, context.seconds)
        output_file.write_text(json.dumps(found, indent=2) + "\n")

    @staticmethod
    async def teardown(context: SetupContext) -> None:
        # Runs once, after the last file: close what setup opened.
        pass


Ask.cli()
