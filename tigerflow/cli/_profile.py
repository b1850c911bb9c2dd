"""The option `--workers-profile`: how jobs of workers are submitted."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.errors import DirectoryMissingError

WorkersProfile = Annotated[
    Path | None,
    typer.Option(
        help="Directory of a Snakemake profile with which workers of Slurm tasks are "
        "submitted, in place of the one that comes with TigerFlow",
    ),
]


def check_profile(profile: Path | None) -> Path | None:
    """Return the absolute path of a profile, if one is given.

    Raises:
        DirectoryMissingError: it is not there.
    """
    if profile is None:
        return None
    option = "--workers-profile"
    # Not profile.is_dir(): it raises for a name that is too long.
    if not os.path.isdir(profile):  # noqa: PTH112
        raise DirectoryMissingError(option, profile)
    return profile.absolute()
