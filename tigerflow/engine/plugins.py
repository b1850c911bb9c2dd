"""What TigerFlow changes of Snakemake's executor plugins, in a process of its own.

Their interface has versions, and is the same for all schedulers; see the contract
tests.
"""

import json
import os
import re
import shutil
import signal
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.executors.base import AbstractExecutor
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from tigerflow.workers.jobs import JobEvent

#: Slurm's states of jobs that were ended from outside: squeue(1), "job state codes".
_KILLED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "DEADLINE",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)

#: How the Slurm plugin names the state of a job that failed.
_STATE = re.compile(r"SLURM status is: '(\w+)")

#: What Snakemake adds to what a plugin says of a failure.
_ADDED = "For further error details see the cluster/cloud log"


def tell_of_jobs(writer: Connection) -> None:
    """Make executors tell what becomes of their jobs, and submit workers alone.

    By default a job starts Snakemake on its node to run the rule's command: two more
    starts of some seconds each, for nothing that a worker needs.
    """
    lock = threading.Lock()
    submitted = RealExecutor.report_job_submission
    succeeded = AbstractExecutor.report_job_success
    failed = AbstractExecutor.report_job_error

    def tell(info: Any, kind: str, text: str, *, is_killed: bool = False) -> None:
        name = Path(info.job.output[0]).parent.name
        event = JobEvent(name, kind, text, is_killed)
        with lock:
            writer.send_bytes(json.dumps(asdict(event)).encode())

    def report_submission(self: Any, job_info: Any, **more: Any) -> None:
        submitted(self, job_info, **more)
        tell(job_info, "submitted", str(job_info.external_jobid))

    def report_success(self: Any, job_info: Any) -> None:
        tell(job_info, "finished", "")
        succeeded(self, job_info)

    def report_error(
        self: Any, job_info: Any, msg: str | None = None, **more: Any
    ) -> None:
        state = _STATE.search(msg or "")
        is_killed = state is not None and state[1] in _KILLED
        tell(job_info, "failed", _plain(msg or ""), is_killed=is_killed)
        failed(self, job_info, msg, **more)

    RealExecutor.report_job_submission = report_submission
    AbstractExecutor.report_job_success = report_success
    AbstractExecutor.report_job_error = report_error
    RealExecutor.format_job_exec = lambda _self, job: job.shellcmd
    RemoteExecutor.cancel = _cancel


def _cancel(self: Any) -> None:
    """Cancel the jobs and end: a thread that asks for their states may sleep long."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with self.lock:
        jobs = list(self.active_jobs)
    self.cancel_jobs(jobs)
    shutil.rmtree(self.tmpdir, ignore_errors=True)
    os._exit(0)


def _plain(text: str) -> str:
    """Return the first sentence or two of what a plugin says of a failure."""
    text = text.partition(_ADDED)[0].partition("\n")[0]
    return " ".join(text.split()).removesuffix(".")
