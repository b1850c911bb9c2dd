"""Print a `TigerflowError` as `Error: …` on stderr, and exit with its code.

The sentence is made in `errors`. `cli.report` prints it as JSON where that is asked
for, and `engine.snakefile` prints it inside Snakemake.
"""

import contextlib
import sys
from collections.abc import Iterator

from tigerflow.errors import PipelineError, TigerflowError


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print the message of a `TigerflowError`, without a traceback, and exit."""
    try:
        yield
    except TigerflowError as error:
        # Mistakes in a pipeline file start with their places, as links for editors.
        prefix = "" if isinstance(error, PipelineError) else "Error: "
        print(f"{prefix}{error}", file=sys.stderr)  # noqa: T201 -- the command line speaks here
        sys.exit(error.exit_code)
