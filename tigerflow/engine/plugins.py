"""Have Snakemake's executor plugins report what becomes of their jobs.

In the process that submits, methods of the plugins' common base class are replaced.
The reports go to `live_jobs`, and `scheduler_words` reads what they say. What is only
Slurm's is in `slurm_plugin`.
"""

import asyncio
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from snakemake import exceptions
from snakemake.logging import logger as snakemake_logger
from snakemake_interface_executor_plugins.executors.base import AbstractExecutor
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from tigerflow.engine.internals import Internal
from tigerflow.engine.live_jobs import LiveJobs
from tigerflow.engine.scheduler_words import ProgramOutput
from tigerflow.engine.slurm_plugin import (
    adapt_slurm_plugin,
    drop_options_of_others,
    is_of_slurm,
    submit_once,
)
from tigerflow.log import logger
from tigerflow.shortage import start_thread
from tigerflow.tasks.shell.launch import carry_functions

#: A plugin asks ever more rarely how its jobs are, but at least so often.
_LONGEST_PAUSE_S = 30.0

#: Makes a shell wait for the end of its command, whatever signals it gets.
_HEAR_OUT = "trap : TERM INT USR1 USR2"

#: Meanwhile, it is looked so often whether there is a reason not to wait.
_STEP_S = 0.5


def tell_of_jobs(connection: Connection, avoided: Sequence[str] = ()) -> None:
    """Make executors tell what becomes of their jobs, and submit workers alone.

    By default a job starts Snakemake on its node to run the rule's command: two more
    starts of some seconds each, for nothing that a worker needs.

    Which jobs there are is remembered here: a plugin forgets those whose state it was
    not told, as while Slurm's database is down.

    No job goes to nodes that are to be `avoided`, if the plugin can do that.
    """
    _prepare_executors(avoided)
    jobs = LiveJobs(connection, ProgramOutput().words)
    start_thread(threading.Thread(target=jobs.listen, name="cancel", daemon=True))
    _note_errors(jobs)
    submitted = RealExecutor.report_job_submission
    succeeded = AbstractExecutor.report_job_success
    failed = AbstractExecutor.report_job_error

    def report_submission(self: Any, job_info: Any, **more: Any) -> None:
        # First: a later service finds it, whatever comes between.
        jobs.submitted(self, job_info)
        submitted(self, job_info, **more)

    def report_success(self: Any, job_info: Any) -> None:
        jobs.ended(job_info, "finished")
        succeeded(self, job_info)

    def report_error(
        self: Any, job_info: Any, msg: str | None = None, **more: Any
    ) -> None:
        jobs.ended(job_info, "failed", msg or "", more.get("aux_logs") or ())
        failed(self, job_info, msg, **more)

    def cancel(self: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, Exception):
            # Snakemake would say it later; but this is the end of the process.
            _print(error, self.workflow)
        jobs.cancel_all(self)

    RealExecutor.report_job_submission = report_submission
    AbstractExecutor.report_job_success = report_success
    AbstractExecutor.report_job_error = report_error
    if Internal.JOB_COMMANDS.is_known:
        RealExecutor.format_job_exec = _command
    if Internal.FOLLOW_JOBS.is_known:
        RemoteExecutor._wait_for_jobs = lambda self: _follow(self, jobs)  # noqa: SLF001
    RemoteExecutor.cancel = cancel


def _print(error: Exception, workflow: Any) -> None:
    if Internal.PRINT_EXCEPTION.is_known:
        exceptions.print_exception(error, workflow.linemaps)
    else:
        snakemake_logger.error(str(error))


def _note_errors(jobs: LiveJobs) -> None:
    """Pass on what Snakemake says of errors, and of options, which a profile has."""
    snakemake_logger.addFilter(jobs.note_error)
    end = ArgumentParser.error

    def error(self: ArgumentParser, message: str) -> None:
        jobs.note_end(message)
        end(self, message)

    ArgumentParser.error = error  # type: ignore[method-assign, assignment]


def set_environment() -> None:
    """Have what is submitted get of the user's environment what is good for it."""
    adapt_slurm_plugin()
    submit_once()
    carry_functions()
    for name in drop_options_of_others():
        logger.warning("{} has no effect on workers; unset it", name)


def _prepare_executors(avoided: Sequence[str]) -> None:
    """Change of each plugin's executor what is not the same for all."""
    begin = RemoteExecutor.__init__

    def prepare(self: Any, *words: Any, **more: Any) -> None:
        begin(self, *words, **more)
        _prepare(self, avoided)

    RemoteExecutor.__init__ = prepare


def _prepare(executor: Any, avoided: Sequence[str]) -> None:
    if not is_of_slurm(executor):
        _submit_apart(executor)
        return
    # No public way: it excludes these nodes from now on.
    nodes = getattr(executor, "_failed_nodes", None)
    if nodes is not None:
        nodes.update(avoided)
    elif avoided:
        logger.warning("The Slurm plugin cannot avoid nodes: {}", ", ".join(avoided))


def _submit_apart(executor: Any) -> None:
    """Have a plugin make no array of several jobs: each is cancelled by itself."""
    together = executor.run_jobs

    def run_jobs(jobs: Sequence[Any]) -> None:
        for job in jobs:
            together([job])

    executor.run_jobs = run_jobs


def _command(executor: Any, job: Any) -> str:
    """Return what a job runs, as a plugin wants it.

    By what comes after it, some learn how it has ended. The shell waits for that, also
    when its scheduler tells all processes of the job to end: with it the job is over,
    and what is left of that is killed.
    """
    prefix = executor.get_job_exec_prefix(job)
    suffix = executor.get_job_exec_suffix(job)
    command: str = job.shellcmd
    if suffix:
        command = f"{command.removeprefix('exec ')} && {suffix}"
    parts = [_HEAR_OUT if suffix else "", prefix, command]
    return " && ".join(part for part in parts if part)


async def _follow(executor: Any, jobs: LiveJobs) -> None:
    """Have a plugin ask again and again how its jobs are."""
    common = executor.workflow.executor_plugin.common_settings
    pause_s = common.init_seconds_before_status_checks
    while executor.wait:
        end = time.monotonic() + min(pause_s, _LONGEST_PAUSE_S)
        while time.monotonic() < end and not jobs.is_urgent.is_set():
            await asyncio.sleep(_STEP_S)
            if not executor.wait:
                return
        jobs.is_urgent.clear()
        jobs.report_ends(executor)
        await _look(executor.check_active_jobs(jobs.of(executor)))
        pause_s = executor.next_seconds_between_status_checks or pause_s


async def _look(active: AsyncIterator[Any]) -> None:
    """Have a plugin ask for its jobs' states; what fails now may work next time."""
    try:
        async for _ in active:
            pass
    except Exception as error:  # noqa: BLE001 -- any plugin's
        logger.warning("Cannot ask how the jobs are: {!r}", error)
