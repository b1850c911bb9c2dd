"""The only place where a `TigerflowError` becomes a message and an exit code."""

import contextlib
import sys
from collections.abc import Iterator

from tigerflow.errors import PipelineError, TigerflowError


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print a `TigerflowError` as its sentence, without a traceback, and exit."""
    try:
        yield
    except TigerflowError as error:
        # A pipeline's mistakes start with their places, for editors to jump to.
        prefix = "" if isinstance(error, PipelineError) else "Error: "
        print(f"{prefix}{error}", file=sys.stderr)  # noqa: T201 -- the command line speaks here
        sys.exit(error.exit_code)
