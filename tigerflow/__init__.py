"""TigerFlow: a result or a readable error for every file that arrives.

Everything here is loaded when it is first used: the client that runs once a file, and
`tigerflow.workers`, must not pay for what they do not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tigerflow.errors import TigerflowError
    from tigerflow.tasks import LocalAsyncTask, LocalTask, SlurmTask
    from tigerflow.tasks.context import SetupContext

__version__ = "0.3.2"

__all__ = [
    "LocalAsyncTask",
    "LocalTask",
    "SetupContext",
    "SlurmTask",
    "TigerflowError",
    "__version__",
    "main",
]

_HOMES = {
    "LocalAsyncTask": "tigerflow.tasks",
    "LocalTask": "tigerflow.tasks",
    "SetupContext": "tigerflow.tasks.context",
    "SlurmTask": "tigerflow.tasks",
    "TigerflowError": "tigerflow.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'tigerflow' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def main() -> None:
    """Run the `tigerflow` command."""
    from tigerflow.cli.root import main as run  # noqa: PLC0415 -- see the module docstring

    run()
