"""Find out what becomes of submitted jobs: accepted, refused, failed or finished.

Snakemake's executor plugins know. This runs in the process that submits: it replaces
methods of the plugins' common base class, reads the words of `sbatch` and of other
schedulers, and decides whether a refusal may pass. What is only Slurm's is in
`slurm_plugin`.
"""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from snakemake import exceptions
from snakemake.logging import logger as snakemake_logger
from snakemake_interface_executor_plugins.executors.base import AbstractExecutor
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_logger_plugins.common import LogEvent

from tigerflow.engine.internals import Internal
from tigerflow.engine.slurm_plugin import (
    adapt_slurm_plugin,
    drop_options_of_others,
    is_of_slurm,
    submit_once,
)
from tigerflow.files import see_anew
from tigerflow.log import configure, logger
from tigerflow.rundir.layout import STATE, job_end
from tigerflow.rundir.lock import read_holder
from tigerflow.settings import Settings
from tigerflow.shortage import start_thread
from tigerflow.tasks.shell.launch import carry_functions
from tigerflow.workers.dispatch.earlier import note_number
from tigerflow.workers.dispatch.scheduler import JobEvent
from tigerflow.workers.dispatch.slurm import EVICTED, KILLED
from tigerflow.workers.dispatch.slurm_reasons import Refusal, refusal_by_limit
from tigerflow.workers.mailbox import exit_code, has_begun, remove_empty_mailboxes

#: How the Slurm plugin names the state of a job that failed.
_STATE = re.compile(r"SLURM status is: '(\w+)")

#: How it tells what sbatch said.
_SAID = re.compile(
    r"The error message was '(.*?)'\.?(?=\s*\Z|\n    sbatch call:)", re.DOTALL
)

#: How Python tells that a program of Slurm's is not there.
_NO_SLURM = re.compile(r"No such file or directory: '(s(?:batch|acct|acctmgr|info))'")

#: What sbatch begins its lines with.
_SPEAKER = re.compile(r"^sbatch: (?:error: )?", re.MULTILINE)

#: What sbatch says when it may take the same job later: slurm_strerror(3).
_OUTAGE = re.compile(
    r"unable to contact|connect failure|connection refused|timed out"
    r"|temporarily|try again|in standby|job submit limit|zero bytes"
    r"|not available \((?:inactive|down)"
    # Of Grid Engine: `Only 10 jobs are allowed per user (current job count: 10)`.
    r"|jobs are allowed per user",
    re.IGNORECASE,
)

#: What Slurm writes to the log of a job that it ends, but not that it ends it: after
#: its own name, and since 26.05 after the time, in any of the forms of LogTimeFormat.
_NODE_SAID = re.compile(
    r"^(?:slurmstepd[^:\n]*:|\[[^]\n]*\d[^]\n]*\]) error: (?!\*\*\*)(.+)$", re.MULTILINE
)

#: What Snakemake adds to what a plugin says of a failure.
_ADDED = "For further error details see the cluster/cloud log"

#: What the Slurm plugin begins with when it does not like a job itself.
_SUBMITTING = "Job submission failed with exception: "

#: Some plugins add the whole script.
_LONGEST = 500

#: A plugin asks ever more rarely how its jobs are, but at least so often.
_LONGEST_PAUSE_S = 30.0

#: Has a shell wait for the end of what it runs, whatever it is told.
_HEAR_OUT = "trap : TERM INT USR1 USR2"

#: Meanwhile, it is looked so often whether there is a reason not to wait.
_STEP_S = 0.5


def _nameless_file() -> int:
    # Pythons that are built for old systems, as conda's are, cannot make the first.
    if hasattr(os, "memfd_create"):
        return os.memfd_create("said")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Programs:
    """What the scheduler's programs say, as far as a plugin leaves that to them.

    From here on, this process itself writes elsewhere than they do.
    """

    def __init__(self) -> None:
        # As it is: to where standard error has led so far.
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        configure()
        self._file = _nameless_file()
        os.dup2(self._file, 2)
        self._seen = 0

    def words(self) -> str:
        """Return what they have said since the last call."""
        size = os.fstat(self._file).st_size - self._seen
        said = os.pread(self._file, size, self._seen).decode(errors="replace")
        self._seen += size
        sys.stderr.write(said)
        return said


class _Jobs:
    """The jobs that have not ended, by our names, and who is told of them."""

    def __init__(
        self, connection: Connection, words: Callable[[], str] = lambda: ""
    ) -> None:
        self._connection = connection
        #: Returns what the scheduler's programs have just said.
        self._words = words
        self._lock = threading.Lock()
        self._submitted: dict[str, tuple[Any, Any]] = {}
        self._unwanted: set[str] = set()
        #: States of jobs that are known to have ended, whatever the plugin hears.
        self._ends: dict[str, str] = {}
        #: Set when one was cancelled or has ended, and is to be looked at.
        self.is_urgent = threading.Event()

    def submitted(self, executor: Any, info: Any) -> None:
        # What they said of it is not about the next.
        self._words()
        place = _place(info)
        with self._lock:
            self._submitted[place.name] = (executor, info)
        # Before all else: it can be cancelled by whoever finds it.
        number = _number(executor, info)
        note_number(place, number)
        is_here = is_of_slurm(executor) and number.isdigit()
        self._tell(JobEvent(place.name, "submitted", number, is_in_slurm=is_here))
        if place.name in self._unwanted:
            self.cancel(place.name)

    def ended(
        self, info: Any, kind: str, message: str = "", logs: Sequence[str] = ()
    ) -> None:
        place = _place(info)
        name = place.name
        with self._lock:
            self._submitted.pop(name, None)
        if kind == "finished":
            # Else Snakemake waits for it while this host remembers that it was absent.
            see_anew(job_end(place))
        state = _STATE.search(message)
        text = _plain(message)
        if kind == "failed" and info.external_jobid is None:
            text = _one_line(self._words()) or text
        if said := _said_on_node(logs):
            text = f"{text}; {said}"
        self._tell(
            JobEvent(
                name,
                kind,
                text,
                is_killed=state is not None and state[1] in KILLED,
                is_outage=state is None and _passes(text),
                is_evicted=state is not None and state[1] in EVICTED,
            )
        )

    def cancel_all(self, executor: Any) -> None:
        """Cancel the jobs and end: a thread that asks for states may sleep long."""
        # What is being submitted gets a number first, by which it can be cancelled.
        submitting = getattr(executor, "_job_submission_executor", None)
        if isinstance(submitting, ThreadPoolExecutor):
            submitting.shutdown(cancel_futures=True)
        if active := self.of(executor):
            _try(executor.cancel_jobs, active)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            _clear([_place(info) for info in active])
            other = read_holder(STATE / "run.pid")
            if other is None or (other.is_here and other.pid == parent.pid):
                # No other service has begun here.
                remove_empty_mailboxes(Path.cwd())
        shutil.rmtree(executor.tmpdir, ignore_errors=True)
        os._exit(0)

    def of(self, executor: Any) -> list[Any]:
        """Return those that an executor has submitted."""
        with self._lock:
            return [info for by, info in self._submitted.values() if by is executor]

    def cancel(self, name: str) -> None:
        with self._lock:
            self._unwanted.add(name)
            executor, info = self._submitted.get(name, (None, None))
        if executor is not None:
            _try(executor.cancel_jobs, [info])
            self.is_urgent.set()

    def end(self, name: str, state: str) -> None:
        """Have a job taken for ended; for a thread that is not the executor's."""
        with self._lock:
            self._ends[name] = state
        self.is_urgent.set()

    def report_ends(self, executor: Any) -> None:
        """Report those that have ended to an executor that does not know."""
        for info in self.of(executor):
            state = self._ends.get(_place(info).name)
            if state == "COMPLETED":
                executor.report_job_success(info)
            elif state is not None:
                executor.report_job_error(info, f"SLURM status is: '{state}'.")

    def listen(self) -> None:
        """Do what is asked for; for a thread."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                match json.loads(self._connection.recv_bytes()):
                    case ["cancel", name]:
                        self.cancel(name)
                    case ["end", name, state]:
                        self.end(name, state)
                    case _:
                        pass

    def note_error(self, record: logging.LogRecord) -> bool:
        """Pass on what Snakemake says of an error, for which it will end."""
        if getattr(record, "event", None) is LogEvent.ERROR:
            self.note_end(record.getMessage())
        return True

    def note_end(self, reason: str) -> None:
        """Pass on why Snakemake will end."""
        self._tell(JobEvent("", "ended", _one_line(reason)[:_LONGEST]))

    def _tell(self, event: JobEvent) -> None:
        # The service may be gone.
        with self._lock, contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(asdict(event)).encode())


def tell_of_jobs(connection: Connection, avoided: Sequence[str] = ()) -> None:
    """Make executors tell what becomes of their jobs, and submit workers alone.

    By default a job starts Snakemake on its node to run the rule's command: two more
    starts of some seconds each, for nothing that a worker needs.

    Which jobs there are is remembered here: a plugin forgets those whose state it was
    not told, as while Slurm's database is down.

    No job goes to nodes that are to be `avoided`, if the plugin can do that.
    """
    _prepare_executors(avoided)
    jobs = _Jobs(connection, _Programs().words)
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


def _note_errors(jobs: _Jobs) -> None:
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


async def _follow(executor: Any, jobs: _Jobs) -> None:
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


def _number(executor: Any, info: Any) -> str:
    """Return a job's number, with its cluster if that is not the one of this place."""
    clusters = getattr(executor, "_submitted_job_clusters", None)
    return ";".join([str(info.external_jobid), *sorted(clusters or ())])


def _place(info: Any) -> Path:
    """Return the directory of a job's mailboxes."""
    return Path(info.job.output[0]).parent


def _clear(places: list[Path]) -> None:
    """Remove the mailboxes of jobs whose workers have ended: the service is gone."""
    settings = Settings.from_environment()
    end = time.monotonic() + settings.worker_grace + settings.worker_lost_timeout
    never = threading.Event()
    while places and time.monotonic() < end:
        for place in [each for each in places if _is_over(each)]:
            shutil.rmtree(place, ignore_errors=True)
            places.remove(place)
        never.wait(_STEP_S)


def _is_over(place: Path) -> bool:
    boxes = [path for path in place.glob("*") if path.is_dir()]
    has_ended = all(exit_code(box) is not None for box in boxes)
    return has_ended or not has_begun(place)


def _try(cancel: Any, infos: list[Any]) -> None:
    try:
        cancel(infos)
    except Exception as error:  # noqa: BLE001 -- any plugin's
        logger.warning("Cannot cancel jobs: {!r}", error)


def _plain(text: str) -> str:
    """Return the scheduler's own words, or a plugin's, on one line."""
    if (said := _SAID.search(text)) is not None:
        return _one_line(said[1])
    if (missing := _NO_SLURM.search(text)) is not None:
        return (
            f"there is no Slurm here (no {missing[1]}); start TigerFlow on a login "
            "node of the cluster"
        )
    text = text.partition(_ADDED)[0].removeprefix(_SUBMITTING)
    return " ".join(text.split())[:_LONGEST].removesuffix(".")


def _passes(said: str) -> bool:
    """Tell whether the scheduler may take the same job later."""
    refusal = refusal_by_limit(said)
    if refusal is None:
        return _OUTAGE.search(said) is not None
    return refusal is Refusal.FOR_NOW


def _said_on_node(logs: Sequence[str]) -> str:
    """Return what Slurm has said in the job's log first: of its memory, perhaps."""
    for log in logs:
        with contextlib.suppress(OSError):
            said = _NODE_SAID.search(Path(log).read_text(errors="replace"))
            if said is not None:
                return said[1].strip()
    return ""


def _one_line(said: str) -> str:
    """Return what a program of the scheduler's has said, without its name."""
    lines = _SPEAKER.sub("", said).splitlines()
    return "; ".join(" ".join(line.split()) for line in lines if line.strip())
