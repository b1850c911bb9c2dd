"""The logger that task packages use.

It writes as TigerFlow does, and is theirs: what a task changes of it changes nothing of
what TigerFlow itself logs.
"""

import sys

from tigerflow.log import add_stream, make_logger

logger = make_logger()
add_stream(logger, sys.stderr)

__all__ = ["logger"]
