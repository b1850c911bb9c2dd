"""Calls of `snakemake.api`; all there are. It is not promised stable: see the tests."""

import logging
from collections.abc import Sequence
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.dag import DAG
from snakemake.exceptions import MissingInputException, WorkflowError
from snakemake.logging import logger
from snakemake.scheduling.greedy import SchedulerSettings
from snakemake.settings.types import (
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    SchedulingSettings,
)

from tigerflow.engine import executor
from tigerflow.engine import snakefile as workflow
from tigerflow.engine.home import make_up_for_home
from tigerflow.engine.internals import Internal
from tigerflow.engine.window import WindowExit, exit_of

#: More than any window has jobs: how many run at once is the pools' business.
PLENTY = 100_000


def run_targets(
    snakefile: Path,
    run_dir: Path,
    limits: Sequence[str],
    targets: Sequence[str],
    *,
    keep_metadata: bool,
) -> WindowExit:
    """Make `targets` (relative to `run_dir`) as far as possible; tell how it ended.

    `limits` are the names of the rules' resources that bound files in flight.
    """
    make_up_for_home(run_dir)
    workflow.targets_are_given = True
    executor.starts_host = False
    executor.target_order = targets
    if Internal.EMPTY_DIRECTORIES.is_known:
        # It removes directories that are empty, in which the worker of another window
        # is about to write.
        DAG.cleanup_workdir = _leave_directories
    # Errors only; and else there would be one log file a window.
    quiet = set(Quietness) - {Quietness.ALL}
    output = OutputSettings(quiet=quiet, enable_file_logging=False)
    with SnakemakeApi(output) as api:
        # Nobody reads more; else each job would still be described, for nobody.
        logger.setLevel(logging.WARNING)
        try:
            dag = api.workflow(
                ResourceSettings(
                    cores=PLENTY,
                    resources=dict.fromkeys(limits, PLENTY),
                    # Not even `tmpdir`, which would be found out for each job.
                    default_resources={},
                ),
                snakefile=snakefile,
                workdir=run_dir,
            ).dag(DAGSettings(targets=set(targets), force_incomplete=True))
            dag.execute_workflow(
                executor="tigerflow",
                execution_settings=ExecutionSettings(
                    # Windows are disjoint, and Snakemake's lock files race.
                    lock=False,
                    keep_going=True,
                    keep_metadata=keep_metadata,
                    # Outputs appear whole. One whose input goes away while Snakemake
                    # looks at both is no less a result.
                    keep_incomplete=True,
                    # The workers stay for the next window.
                    no_hooks=True,
                ),
                scheduling_settings=SchedulingSettings(scheduler="greedy"),
                scheduler_settings=SchedulerSettings(),
                greedy_scheduler_settings=SchedulerSettings(),
            )
        except MissingInputException as error:
            api.print_exception(error)
            return WindowExit.INPUT_MISSING
        except WorkflowError as error:
            api.print_exception(error)
            return WindowExit.JOBS_FAILED
        except Exception as error:  # noqa: BLE001 -- a bug of Snakemake's is not the service's end
            api.print_exception(error)
            return exit_of(error)
    return WindowExit.DONE


def _leave_directories(_dag: DAG) -> None:
    """Remove none."""
