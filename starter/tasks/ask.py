"""Ask: what a service answers to a text."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalAsyncTask
from tigerflow.utils import SetupContext


async def answer(text: str, seconds: float) -> dict[str, object]:
    """Stand in for a request to a service; write yours here."""
    await asyncio.sleep(seconds)
    return {"text": text, "letters": sum(letter.isalpha() for letter in text)}


class Ask(LocalAsyncTask):
    """Ask a service about a text."""

    class Params:
        seconds: Annotated[
            float,
            typer.Option(help="How long an answer takes", min=0),
        ] = 0.2

    @staticmethod
    async def setup(context: SetupContext) -> None:
        # Once, before the first file: open a session, read a key.
        context.service = answer

    @staticmethod
    async def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        # While this file waits for its answer, the others go on.
        text = input_file.read_text().strip()
        found = await context.service(text, context.seconds)
        output_file.write_text(json.dumps(found, indent=2) + "\n")

    @staticmethod
    async def teardown(context: SetupContext) -> None:
        # Once, after the last file: close what setup has opened.
        pass


Ask.cli()
