"""Count the words of a text."""

from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class Count(LocalTask):
    """Count how often each word occurs in a text."""

    class Params:
        min_length: Annotated[
            int,
            typer.Option(min=1, help="Leave out words with fewer letters"),
        ] = 1

    @staticmethod
    def setup(context: SetupContext) -> None:
        import re

        # Letters and inner apostrophes, in any language.
        context.word = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        import json
        from collections import Counter

        text = input_file.read_text(encoding="utf-8")
        words = (word.lower() for word in context.word.findall(text))
        counts = Counter(word for word in words if len(word) >= context.min_length)
        result = {"words": counts.total(), "counts": dict(counts.most_common())}
        text = json.dumps(result, ensure_ascii=False, indent=1)
        output_file.write_text(text + "\n")


Count.cli()
