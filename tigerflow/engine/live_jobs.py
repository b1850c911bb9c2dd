"""The jobs of one submission that have not ended, and what is reported of them.

In the process that submits: events go to the service through a connection, and requests
to cancel come from there. A plugin forgets jobs whose state it was not told, as while
Slurm's database is down; they are remembered here.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from tigerflow.engine.scheduler_words import (
    LONGEST,
    one_line,
    passes,
    plain,
    said_on_node,
    slurm_state,
)
from tigerflow.engine.slurm_plugin import is_of_slurm
from tigerflow.files import see_anew
from tigerflow.log import logger
from tigerflow.rundir.layout import STATE, job_end
from tigerflow.rundir.lock import read_holder
from tigerflow.settings import Settings
from tigerflow.workers.dispatch.earlier import note_number
from tigerflow.workers.dispatch.scheduler import JobEvent
from tigerflow.workers.dispatch.slurm import EVICTED, KILLED
from tigerflow.workers.mailbox import exit_code, has_begun, remove_empty_mailboxes

#: How often it is looked whether workers have ended, in seconds.
_STEP_S = 0.5


class LiveJobs:
    """The jobs that have not ended, by our names, and reports on them."""

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
        """Note and report that an executor has submitted a job."""
        # What they said of it is not about the next.
        self._words()
        place = _place(info)
        with self._lock:
            self._submitted[place.name] = (executor, info)
        # Before all else: whoever finds the number can cancel the job.
        number = _number(executor, info)
        note_number(place, number)
        is_here = is_of_slurm(executor) and number.isdigit()
        self._tell(JobEvent(place.name, "submitted", number, is_in_slurm=is_here))
        if place.name in self._unwanted:
            self.cancel(place.name)

    def ended(
        self, info: Any, kind: str, message: str = "", logs: Sequence[str] = ()
    ) -> None:
        """Report that a job is `finished` or `failed`, as a plugin's message says.

        `logs` are files in which Slurm may have written why.
        """
        place = _place(info)
        name = place.name
        with self._lock:
            self._submitted.pop(name, None)
        if kind == "finished":
            # Else Snakemake waits for it while this host remembers that it was absent.
            see_anew(job_end(place))
        state = slurm_state(message)
        text = plain(message)
        if kind == "failed" and info.external_jobid is None:
            text = one_line(self._words()) or text
        if said := said_on_node(logs):
            text = f"{text}; {said}"
        self._tell(
            JobEvent(
                name,
                kind,
                text,
                is_killed=state in KILLED,
                is_outage=state is None and passes(text),
                is_evicted=state in EVICTED,
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
        """Cancel a job, also one that is still being submitted."""
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
        self._tell(JobEvent("", "ended", one_line(reason)[:LONGEST]))

    def _tell(self, event: JobEvent) -> None:
        # The service may be gone.
        with self._lock, contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(asdict(event)).encode())


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
