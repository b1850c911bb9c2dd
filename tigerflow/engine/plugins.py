"""What TigerFlow changes of Snakemake's executor plugins, in a process of its own.

Their interface has versions, and is the same for all schedulers; see the contract
tests.
"""

import contextlib
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
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
    jobs = _Jobs(writer)
    submitted = RealExecutor.report_job_submission
    succeeded = AbstractExecutor.report_job_success
    failed = AbstractExecutor.report_job_error

    def report_submission(self: Any, job_info: Any, **more: Any) -> None:
        jobs.submitted(job_info)
        submitted(self, job_info, **more)

    def report_success(self: Any, job_info: Any) -> None:
        jobs.ended(job_info, "finished", "")
        succeeded(self, job_info)

    def report_error(
        self: Any, job_info: Any, msg: str | None = None, **more: Any
    ) -> None:
        jobs.ended(job_info, "failed", msg or "")
        failed(self, job_info, msg, **more)

    def cancel(self: Any) -> None:
        jobs.cancel_all(self)

    RealExecutor.report_job_submission = report_submission
    RemoteExecutor.cancel = cancel
    AbstractExecutor.report_job_success = report_success
    AbstractExecutor.report_job_error = report_error
    RealExecutor.format_job_exec = lambda _self, job: job.shellcmd


class _Jobs:
    """The jobs that are submitted and have not ended.

    Executors have a list of them, too, but empty it while they ask for their states.
    """

    def __init__(self, writer: Connection) -> None:
        self._writer = writer
        self._live: dict[str, Any] = {}
        self._lock = threading.Lock()

    def submitted(self, info: Any) -> None:
        place, number = _place(info), str(info.external_jobid)
        # For a later service, before anything can come between.
        with contextlib.suppress(OSError):
            (place / "number").write_text(number, encoding="ascii")
        with self._lock:
            self._live[place.name] = info
            self._tell(JobEvent(place.name, "submitted", number))

    def ended(self, info: Any, kind: str, text: str) -> None:
        state = _STATE.search(text)
        is_killed = state is not None and state[1] in _KILLED
        name = _place(info).name
        with self._lock:
            self._live.pop(name, None)
            self._tell(JobEvent(name, kind, _plain(text), is_killed))

    def cancel_all(self, executor: Any) -> None:
        """Cancel the jobs and end: a thread that asks for states may sleep long."""
        _finish_submissions(executor)
        with self._lock:
            infos = list(self._live.values())
        executor.cancel_jobs(infos)
        shutil.rmtree(executor.tmpdir, ignore_errors=True)
        os._exit(0)

    def _tell(self, event: JobEvent) -> None:
        # Who has died hears nothing.
        with contextlib.suppress(OSError):
            self._writer.send_bytes(json.dumps(asdict(event)).encode())


def _place(info: Any) -> Path:
    """Return the directory of a job's mailboxes."""
    return Path(info.job.output[0]).parent


def _finish_submissions(executor: Any) -> None:
    """Wait for jobs that are being submitted; submit no others."""
    # Of the Slurm plugin; others submit in the thread that cancels.
    threads = getattr(executor, "_job_submission_executor", None)
    if isinstance(threads, ThreadPoolExecutor):
        threads.shutdown(cancel_futures=True)


def _plain(text: str) -> str:
    """Return the first sentence or two of what a plugin says of a failure."""
    text = text.partition(_ADDED)[0].partition("\n")[0]
    return " ".join(text.split()).removesuffix(".")
