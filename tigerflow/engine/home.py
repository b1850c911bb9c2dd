"""Let Snakemake run for a user without a usable home directory or account name.

Its cache goes to the run directory then.
"""

import getpass
import os
from pathlib import Path

from platformdirs import PlatformDirs
from snakemake import common

from tigerflow.engine.internals import Internal
from tigerflow.files import storage_problem
from tigerflow.rundir.layout import CACHE


def make_up_for_home(run_dir: Path) -> None:
    """Let Snakemake start without a home of use, and without an entry in passwd(5).

    Containers and services have such users. Snakemake has nothing to store there, and
    wants the name for its log.
    """
    if not _has_cache():
        if Internal.USER_DIRECTORIES.is_known:
            # No environment variable: the tasks' jobs would have it, too.
            common.APPDIRS = _Below(run_dir / CACHE)
        else:
            os.environ["XDG_CACHE_HOME"] = str(run_dir / CACHE)
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def _has_cache() -> bool:
    """Tell whether the directory for sources that were fetched can be used."""
    try:
        directories = PlatformDirs("snakemake", "snakemake")
        place = Path(directories.user_cache_dir, "snakemake", "source-cache")
        if not place.is_absolute():
            return False
        place.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # The latter: there is no home at all.
        return False
    return storage_problem(place) is None


class _Below(PlatformDirs):
    """The user's directories, but for the cache."""

    def __init__(self, cache: Path) -> None:
        super().__init__("snakemake", "snakemake")
        self._cache = cache

    @property
    def user_cache_dir(self) -> str:
        return str(self._cache)
