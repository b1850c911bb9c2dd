"""Packages that `make` installs beside the tests' environment, see the Makefile."""

import os
import sys
from pathlib import Path

import pytest


def installed(name: str) -> Path:
    """Return the directory of a package; a test that lacks it fails in CI only."""
    directory = Path(sys.prefix) / name
    if not directory.is_dir():
        missing = f"there is no {directory}; `make lint` installs it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return directory
