"""The option `--workers-profile`: how the jobs of workers are submitted."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.errors import DirectoryMissingError

WorkersProfile = Annotated[
    Path | None,
    typer.Option(
        help="Directory of a Snakemake profile for submitting the workers of Slurm "
        "tasks, instead of TigerFlow's own",
    ),
]


def check_profile(profile: Path | None) -> Path | None:
    """Return the absolute path of a profile, if one is given.

    Raises:
        DirectoryMissingError: it does not exist.
    """
    if profile is None:
        return None
    option = "--workers-profile"
    # Path.is_dir() would raise for a name that is too long.
    if not os.path.isdir(profile):  # noqa: PTH112
        raise DirectoryMissingError(option, profile)
    return profile.absolute()
