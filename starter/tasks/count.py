"""Count the most frequent words of each text."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import SlurmTask
from tigerflow.utils import SetupContext


class Count(SlurmTask):
    """Count the most frequent words of a text."""

    class Params:
        most: Annotated[int, typer.Option(help="How many words", min=1)] = 10

    @staticmethod
    def setup(context: SetupContext) -> None:
        # Runs once per worker, not once per file: import and load your model here.
        context.skipped = {"a", "and", "in", "is", "of", "the", "to"}

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        words = [word.strip(".,;:!?") for word in input_file.read_text().split()]
        counts = Counter(word for word in words if word not in context.skipped)
        most = dict(counts.most_common(context.most))
        output_file.write_text(json.dumps(most, indent=2) + "\n")


Count.cli()
