"""Make Snakemake's executor plugin for Slurm respect the user's environment.

Inside a job, the plugin drops the variables that say where Slurm is, and it prefers its
own guess of partition and account to `SBATCH_PARTITION` and `SBATCH_ACCOUNT`. Job
numbers and states are read from whatever Slurm prints. See the contract tests for what
is replaced.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from tigerflow.engine.internals import Internal

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

#: The line that `sbatch --parsable` prints: a number, and perhaps a cluster.
_NUMBER = re.compile(r"^[ \t]*(\d+)(?:;\S*)?[ \t]*$", re.MULTILINE)

#: With fewer jobs in an array, the plugin warns, or refuses to work; none is asked for.
_FEWEST_IN_ARRAY = 11


#: Marks the plugin once it is adapted.
_ADAPTED = "tigerflow_has_adapted_it"


def adapt_slurm_plugin() -> None:
    """Have the Slurm plugin obey the environment as `sbatch` does, if it is loaded."""
    plugin: Any = sys.modules.get(_PLUGIN)
    if plugin is None or hasattr(plugin, _ADAPTED):
        return
    setattr(plugin, _ADAPTED, True)
    changes: dict[Internal, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
        Internal.LEAVE_ALLOCATION: lambda _: leave_allocation,
        Internal.PARTITION: partial(_unless, "SBATCH_PARTITION"),
        Internal.SUBMIT_COMMAND: _with_comment,
        Internal.ACCOUNT: partial(_unless, "SBATCH_ACCOUNT"),
        Internal.JOB_NUMBER: lambda _: number_said,
        Internal.JOB_STATES: _in_single_words,
    }
    for internal, change in changes.items():
        if internal.is_known:
            changed = change(getattr(plugin, internal.place))
            setattr(plugin, internal.place, changed)
    # Plugins before 2.6 submit no arrays.
    if hasattr(plugin, "get_max_array_size"):
        plugin.get_max_array_size = _at_least(plugin.get_max_array_size)


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


def _with_comment(submit_command: Callable[..., str]) -> Callable[..., str]:
    """Put the user's comment before that by which jobs are found again."""

    def command(job: Any, params: dict[str, Any], *words: Any, **more: Any) -> str:
        if comment := job.resources.get("slurm_comment"):
            params = params | {"comment_str": f"{comment} {params['comment_str']}"}
        return submit_command(job, params, *words, **more)

    return command


def submit_once() -> None:
    """Have Slurm start no job again on another node: a new one replaces it.

    Unless the profile says `slurm-requeue`. Not by `slurm-no-requeue`, which plugins
    before 2.8 do not have.
    """
    plugin: Any = sys.modules.get(_PLUGIN)
    if plugin is not None and Internal.SUBMIT_COMMAND.is_known:
        plugin.get_submit_command = _once(plugin.get_submit_command)


def _once(submit_command: Callable[..., str]) -> Callable[..., str]:
    def command(*given: Any, **more: Any) -> str:
        words = submit_command(*given, **more)
        if {"--requeue", "--no-requeue"} & set(shlex.split(words)):
            return words
        return f"{words} --no-requeue"

    return command


def _unless(variable: str, guess: Callable[..., Any]) -> Callable[..., Any]:
    """Return what the environment says, or else the plugin's guess."""
    return lambda *given: os.environ.get(variable) or guess(*given)


def _in_single_words(query: Callable[..., Any]) -> Callable[..., Any]:
    """Return a query whose states are words that the plugin knows.

    It takes `CANCELLED by 1000`, as sacct says of a job that was cancelled before it
    started, for a state of one that runs.
    """

    async def ask(*given: Any) -> Any:
        states, *more = await query(*given)
        if states is not None:
            states = {job: (state.split() or [""])[0] for job, state in states.items()}
        return states, *more

    return ask


def number_said(_first: str, said: str) -> str:
    """Return the number that `sbatch --parsable` has printed, whatever else it did.

    Raises:
        ValueError: there is none.
    """
    found = _NUMBER.findall(said)
    if not found:
        msg = f"sbatch has printed no job number, but: {said.strip()!r}"
        raise ValueError(msg)
    number: str = found[-1]
    return number


def is_of_slurm(executor: object) -> bool:
    """Tell whether jobs are submitted by the Slurm plugin."""
    return type(executor).__module__ == _PLUGIN
