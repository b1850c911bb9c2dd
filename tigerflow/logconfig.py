"""The import path of the logger that task packages use."""

from tigerflow.log import add_levels, logger

add_levels()

__all__ = ["logger"]
