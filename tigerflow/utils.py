"""The import path of `SetupContext` that task modules use."""

from tigerflow.context import SetupContext

__all__ = ["SetupContext"]
