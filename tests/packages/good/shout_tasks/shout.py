"""Shout: a text in capitals, with marks.

For those who don't hear well.
"""

from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask, SlurmTask

print("this is printed at import")


class _Shouting:
    class Params:
        marks: Annotated[int, typer.Option(help="How many marks", min=0)]
        mark: str = "!"
        quiet: Annotated[bool, typer.Option(hidden=True)] = False

    @staticmethod
    def run(context, input_file: Path, output_file: Path):
        end = context.mark * context.marks
        output_file.write_text(input_file.read_text().upper() + end)


class Shout(_Shouting, LocalTask):
    """Shout here."""


class ShoutAfar(_Shouting, SlurmTask):
    """Shout there."""


if __name__ == "__main__":
    Shout.cli()
