import asyncio
from pathlib import Path

from tigerflow.tasks import LocalAsyncTask
from tigerflow.utils import SetupContext


class Ask(LocalAsyncTask):
    """Ask a service about a text."""

    @staticmethod
    async def setup(context: SetupContext):
        context.delay_s = 0.1

    @staticmethod
    async def run(context: SetupContext, input_file: Path, output_file: Path):
        question = input_file.read_text().strip()
        await asyncio.sleep(context.delay_s)  # a request, in real life
        output_file.write_text(f"{question} - good question\n")


Ask.cli()
