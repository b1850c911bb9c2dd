"""The only place where a `TigerflowError` becomes a message and an exit code."""

import contextlib
import sys
from collections.abc import Iterator

from tigerflow.errors import TigerflowError


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print a `TigerflowError` as its sentence, without a traceback, and exit."""
    try:
        yield
    except TigerflowError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 -- the command line speaks here
        sys.exit(error.exit_code)
