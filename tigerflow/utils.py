"""The import path of `SetupContext` that task modules use."""

from tigerflow.tasks.context import SetupContext

__all__ = ["SetupContext"]
