"""What TigerFlow uses of Snakemake's internals, and what it does without each.

Snakemake does not promise to keep these. Before one is used, it is looked up here:
where it is missing, or takes other parameters, TigerFlow leaves Snakemake to its own
way and says so in one line. `docs/architecture.md` has the table.
"""

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from importlib import metadata

from tigerflow.errors import UnsupportedSnakemakeError

#: The first version that works, and the first that is not tried: as in pyproject.toml.
OLDEST, TOO_NEW = (9, 20), (10, 0)


class Internal(Enum):
    """An internal: its module, its place there, its parameters, and life without it.

    The parameters are those that are relied on; `...` stands for any others. None: it
    is no function.
    """

    EMPTY_DIRECTORIES = (
        "snakemake.dag",
        "DAG.cleanup_workdir",
        "self",
        "An empty directory may be removed while a file is written to it.",
    )
    OUTPUT_TIMES = (
        "snakemake.dag",
        "DAG.check_output_mtime",
        "self, job, expanded_output",
        "Inputs dated in the future fail.",
    )
    PRIORITIES = (
        "snakemake.dag",
        "DAG.priority",
        "self, job",
        "Files are processed in any order.",
    )
    RECORDS = (
        "snakemake.persistence",
        "PersistenceBase._write_record",
        "self, key, record",
        "An input that is replaced while it is processed may pass for processed.",
    )
    RUN_COROUTINE = (
        "snakemake.workflow",
        "Workflow.async_run",
        "self, coro",
        "Jobs are prepared one by one, which takes longer.",
    )
    PREPARE_JOB = (
        "snakemake.jobs",
        "Job.prepare",
        "self",
        "Jobs are prepared one by one, which takes longer.",
    )
    MAIN_SNAKEFILE = (
        "snakemake.modules",
        "WorkflowModifier.is_main_snakefile",
        "self",
        "A compiled workflow that is used as a module is not refused.",
    )
    IN_REMOTE_JOB = (
        "snakemake.workflow",
        "Workflow.remote_exec",
        None,
        "In a scheduler's job, each file of a group sets up its own workers.",
    )
    LIMITS = (
        "snakemake.workflow",
        "Workflow.register_resource",
        "self, name, value",
        "Without a profile, files that wait for a worker hold cores.",
    )
    JOB_COMMANDS = (
        "snakemake_interface_executor_plugins.executors.real",
        "RealExecutor.format_job_exec",
        "self, job",
        "Jobs start Snakemake before a worker, and need 300 MB more.",
    )
    FOLLOW_JOBS = (
        "snakemake_interface_executor_plugins.executors.remote",
        "RemoteExecutor._wait_for_jobs",
        "self",
        "Jobs whose state Slurm cannot tell for a while may be given up.",
    )
    PRINT_EXCEPTION = (
        "snakemake.exceptions",
        "print_exception",
        "ex, linemaps",
        "The log of jobs has errors without their place in the Snakefile.",
    )
    USER_DIRECTORIES = (
        "snakemake.common",
        "get_appdirs",
        "",
        "Without a usable home, jobs see XDG_CACHE_HOME.",
    )
    LEAVE_ALLOCATION = (
        "snakemake_executor_plugin_slurm",
        "delete_slurm_environment",
        "",
        "Inside a Slurm job, SLURM_CONF and SLURM_CLUSTERS are not passed on.",
    )
    PARTITION = (
        "snakemake_executor_plugin_slurm",
        "get_default_partition",
        "job, logger",
        "SBATCH_PARTITION has no effect.",
    )
    ACCOUNT = (
        "snakemake_executor_plugin_slurm",
        "get_account",
        "logger",
        "SBATCH_ACCOUNT has no effect.",
    )
    SUBMIT_COMMAND = (
        "snakemake_executor_plugin_slurm",
        "get_submit_command",
        "job, params, ...",
        "Jobs have no comment of the user's, and Slurm may start one again.",
    )
    JOB_NUMBER = (
        "snakemake_executor_plugin_slurm",
        "validate_or_get_slurm_job_id",
        "job_id, output",
        "Where sbatch prints more than the job's number, jobs may not be found.",
    )
    JOB_STATES = (
        "snakemake_executor_plugin_slurm",
        "query_job_status",
        "...",
        "A job that is cancelled before it starts may pass for one that runs.",
    )

    def __init__(
        self, module: str, place: str, parameters: str | None, without: str
    ) -> None:
        self.module = module
        self.place = place
        self.parameters = parameters
        self.without = without

    @property
    def is_known(self) -> bool:
        """Whether it is there, as TigerFlow uses it."""
        return _is_known(self)

    @property
    def _sentence(self) -> str:
        package = self.module.partition(".")[0].replace("_", "-")
        taken = "" if self.parameters is None else f"({self.parameters})"
        version = metadata.version(package)
        return f"{package} {version} has no {self.place}{taken}. {self.without}"


def check_snakemake() -> None:
    """Check that the Snakemake that is installed is one that can be used.

    Raises:
        UnsupportedSnakemakeError: it is too old or too new.
    """
    version = metadata.version("snakemake")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not OLDEST <= numbers < TOO_NEW:
        raise UnsupportedSnakemakeError(version, OLDEST, TOO_NEW)


def missing() -> Iterator[str]:
    """Yield a sentence for each internal that is not as expected.

    Only of what is imported; those of a plugin that is not used do not matter.
    """
    for internal in Internal:
        if internal.module.partition(".")[0] in sys.modules and not internal.is_known:
            yield internal._sentence  # noqa: SLF001 -- of this module


# Kept: it is asked before TigerFlow replaces what is found.
@functools.cache
def _is_known(internal: Internal) -> bool:
    try:
        module = importlib.import_module(internal.module)
        found = functools.reduce(getattr, internal.place.split("."), module)
        if internal.parameters is None:
            return True
        taken = ", ".join(inspect.signature(found).parameters)  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    wanted, is_open, _ = internal.parameters.partition("...")
    return f"{taken}, ".startswith(wanted) if is_open else taken == wanted
