"""What TigerFlow changes of Snakemake's executor plugin for Slurm.

The environment says where Slurm is, and what a user wants of each job. The plugin
forgets the first inside an allocation, and puts its own guesses before the second. See
the contract tests for what is replaced.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

_PLUGIN = "snakemake_executor_plugin_slurm"

#: Says where Slurm is, and who asks; all other `SLURM_*` describe the allocation.
_OF_CLIENTS = frozenset(
    {"SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
)

#: Would split a worker's job in several, keep sbatch waiting, end a worker under its
#: file, or take the job's log apart: the options that `sbatch_options` cannot have.
_NOT_FOR_WORKERS = frozenset(
    {
        "SBATCH_ARRAY_INX",
        "SBATCH_ERROR",
        "SBATCH_INPUT",
        "SBATCH_SIGNAL",
        "SBATCH_WAIT",
    }
)

#: How long Slurm may take to say why jobs wait.
_PATIENCE_S = 30.0

#: With fewer jobs in an array, the plugin warns, or refuses to work; none is asked for.
_FEWEST_IN_ARRAY = 11


def adapt_slurm_plugin() -> None:
    """Have the Slurm plugin obey the environment as `sbatch` does, if it is loaded."""
    plugin: Any = sys.modules.get(_PLUGIN)
    if plugin is None or plugin.delete_slurm_environment is leave_allocation:
        return
    plugin.delete_slurm_environment = leave_allocation
    plugin.get_max_array_size = _at_least(plugin.get_max_array_size)
    plugin.get_default_partition = _unless(
        "SBATCH_PARTITION", plugin.get_default_partition
    )
    plugin.get_account = _unless("SBATCH_ACCOUNT", plugin.get_account)


def leave_allocation() -> None:
    """Forget the allocation that this process is in, but not where Slurm is."""
    for name in list(os.environ):
        if name.startswith("SLURM_") and name not in _OF_CLIENTS:
            del os.environ[name]


def drop_options_of_others() -> list[str]:
    """Remove from the environment what workers cannot have; return the names."""
    found = sorted(_NOT_FOR_WORKERS & os.environ.keys())
    for name in found:
        del os.environ[name]
    return found


def _at_least(size: Callable[[], int]) -> Callable[[], int]:
    return lambda: max(size(), _FEWEST_IN_ARRAY)


def _unless(variable: str, guess: Callable[..., Any]) -> Callable[..., Any]:
    """Return what the environment says, or else the plugin's guess."""
    return lambda *given: os.environ.get(variable) or guess(*given)


def is_of_slurm(executor: object) -> bool:
    """Tell whether jobs are submitted by the Slurm plugin."""
    return type(executor).__module__ == _PLUGIN


async def reasons_of_pending(executor: Any) -> dict[str, str]:
    """Return why the jobs of an executor wait, in Slurm's words, by their numbers."""
    options = ["--noheader", "--states=PENDING", "--format=%A %r"]
    # Its own: the number may also be that of a job in another cluster.
    options.append(f"--name={executor.run_uuid}")
    if clusters := executor._submitted_job_clusters:  # noqa: SLF001 -- no public way
        options.append(f"--clusters={','.join(clusters)}")
    try:
        process = await asyncio.create_subprocess_exec(
            *("squeue", *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return {}
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
    except TimeoutError:
        return {}
    finally:
        # It may wait long for a controller that is down.
        if process.returncode is None:
            process.kill()
            await process.wait()
    pairs = (line.partition(" ") for line in said.decode(errors="replace").splitlines())
    return {number: reason.strip() for number, _, reason in pairs}
