"""The Snakemake executor `tigerflow`: jobs go to workers without a process per file.

A job whose command is our client is handed to the run directory's worker host over one
connection, and Snakemake continues; the host's answer ends the job. All other jobs run
as Snakemake's local executor runs them.

On a login node, the host submits the workers of Slurm tasks as jobs. Inside a Slurm job
it starts them as processes, as everywhere where there is no `sbatch`, unless a profile
says how to submit them.

One class, long as it is: Snakemake makes it, and calls its methods from three threads.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from snakemake.executors.local import Executor as LocalExecutor
from snakemake.executors.local import common_settings
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

from tigerflow.engine import snakefile
from tigerflow.engine.internals import Internal
from tigerflow.files import date_not_before
from tigerflow.rundir.layout import WORKERS_PROFILE, WORKERS_SNAKEFILE
from tigerflow.shortage import start_thread
from tigerflow.workers import client

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

#: Whether a run without a worker host starts one; that of a service ends instead.
starts_host = True

#: The outputs that a window was asked for, in the order in which to make them.
target_order: Sequence[str] = ()

#: The command of a rule of ours.
_COMMAND = re.compile(r"\{RUN\} (?P<task>\S+) \{input:q\} \{output:q\}")

#: The host that submits workers as jobs.
_SUBMITTING = "tigerflow.engine.hosting"


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc] # Snakemake has no types for it
    """Options that Snakemake has for this executor: `--tigerflow-…`."""

    workers_profile: Optional[Path] = field(  # noqa: UP045 -- Snakemake reads no other form
        default=None,
        metadata={
            "help": "Profile that says how workers of Slurm tasks are submitted "
            "(default: profiles/workers of the workflow, where there is sbatch, "
            "and not inside a Slurm job)"
        },
    )

    def __post_init__(self) -> None:
        """Find the profile from where the command is called, not from the workflow."""
        if self.workers_profile is None:
            return
        self.workers_profile = self.workers_profile.absolute()
        if not os.path.isdir(self.workers_profile):  # noqa: PTH112
            msg = f"--tigerflow-workers-profile: {self.workers_profile} is no directory"
            raise WorkflowError(msg)


class Executor(LocalExecutor):  # type: ignore[misc] # Snakemake has no types for it
    """Snakemake makes one for each run."""

    def __post_init__(self) -> None:
        """Be a local executor; the host is reached when there is a job for it."""
        super().__post_init__()
        self._connection: socket.socket | None = None
        self._jobs: dict[bytes, SubmittedJobInfo] = {}
        # Jobs are sent by Snakemake's thread and ended by the one that listens.
        self._lock = threading.Lock()
        #: Output -> when its run was called, in seconds since the epoch.
        self._starts: dict[str, float] = {}
        #: Output -> what tells the input that it is made of from any other.
        self._sources: dict[str, tuple[object, ...]] = {}
        #: Stem -> its place among the files of this run.
        self._places = _places(self.dag.jobs)
        self._replace_internals()

    def _replace_internals(self) -> None:
        if Internal.OUTPUT_TIMES.is_known:
            self._check_output_mtime = self.dag.check_output_mtime
            self.dag.check_output_mtime = self._redate_outputs
        if Internal.PRIORITIES.is_known:
            self._own_priority = self.dag.priority
            self.dag.priority = self._priority
        if Internal.RECORDS.is_known:
            persistence = self.workflow.persistence
            self._write_record = persistence._write_record  # noqa: SLF001 -- no public way
            persistence._write_record = self._write_own_record  # noqa: SLF001

    def run_jobs(self, jobs: list[Any]) -> None:
        """Hand over our jobs, and run here those that are none of ours."""
        ours = [(job, words) for job in jobs if (words := _client_words(job))]
        # Snakemake has them in sets.
        ours.sort(key=lambda each: self._place(each[0]))
        self._prepare([job for job, _ in ours])
        self._hand_over([self._announce(job, words) for job, words in ours])
        handed = {job for job, _ in ours}
        super().run_jobs([job for job in jobs if job not in handed])

    def _prepare(self, jobs: list[Any]) -> None:
        if Internal.RUN_COROUTINE.is_known and Internal.PREPARE_JOB.is_known:
            # All at once: starting and ending an event loop takes longer than one job.
            self.workflow.async_run(_prepare(jobs))
            return
        for job in jobs:
            self.job_args_and_prepare(job)

    def _place(self, job: Any) -> int:
        return self._places.get(_stem(job), 0)

    def _priority(self, job: Any) -> float:
        """Return a job's priority: of jobs with the same, earlier files go first.

        Snakemake would choose those with the largest inputs, or any.
        """
        own: float = self._own_priority(job)
        return own + 1 - (self._place(job) + 1) / (len(self._places) + 1)

    def _announce(self, job: Any, words: client.Fields) -> "_Handed":
        if self.logger.isEnabledFor(logging.INFO):
            self.run_job_pre(job)
        info = SubmittedJobInfo(job=job)
        # Not marked as being made: an output of ours is there whole or not at all.
        self.report_job_submission(info, register_job=False)
        self._sources[str(job.output[0])] = _state_of(job.input)
        return client.RunRequest(str(job.jobid).encode(), words), info

    def _hand_over(self, handed: "list[_Handed]") -> None:
        if not handed:
            return
        try:
            self._send(handed)
        except (OSError, client.HostError) as error:
            for request, info in handed:
                # The thread that listens may have ended the job already.
                if self._take(request.number) is not None:
                    self._fail(info, str(error))

    async def _redate_outputs(self, job: Any, outputs: Sequence[str]) -> None:
        """Redate outputs that Snakemake would refuse as older than their inputs.

        It has just touched them; an input from a clock that is ahead is still newer.
        """
        if _client_words(job) is not None:
            for output, source in itertools.product(outputs, job.input):
                date_not_before(Path(output), Path(source))
        await self._check_output_mtime(job, outputs)

    def shutdown(self) -> None:
        """End; all jobs have been answered."""
        self._disconnect()
        super().shutdown()

    def cancel(self) -> None:
        """Give up the jobs in flight: the host sees that nobody waits for them."""
        self._disconnect()
        super().cancel()

    def _send(self, handed: "list[_Handed]") -> None:
        requests = [request.fields() for request, _ in handed]
        with self._lock:
            # With the connection: the jobs are those that it has to answer.
            self._jobs.update((request.number, info) for request, info in handed)
            if self._connection is not None:
                client.send(self._connection, *requests)
                return
            workflow_dir = os.fsdecode(handed[0][0].words[0])
            host = self._host(workflow_dir) if starts_host else None
            self._connection = client.open_session(requests, host)
        listener = threading.Thread(
            target=self._listen,
            args=(self._connection,),
            name="answers",
            daemon=True,
        )
        start_thread(listener)

    def _host(self, workflow_dir: str) -> tuple[str, ...]:
        """Return the host for the workflow, and the words that it is started with."""
        settings = self.workflow.executor_settings
        profile = settings.workers_profile if settings else None
        is_in_job = "SLURM_JOB_ID" in os.environ
        if profile is None and not is_in_job and shutil.which("sbatch"):
            profile = Path(workflow_dir, WORKERS_PROFILE)
        if profile is None or not Path(workflow_dir, WORKERS_SNAKEFILE).exists():
            return client.HOST
        return (_SUBMITTING, workflow_dir, str(profile))

    def _disconnect(self) -> None:
        with self._lock:
            if self._connection is not None:
                # Not only close: that would not wake the thread that listens, which
                # may be closing it just now.
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def _listen(self, connection: socket.socket) -> None:
        """End jobs as they are answered; fail those that nobody will answer."""
        reason = "its answer was lost"
        try:
            with connection:
                while True:
                    self._end(client.receive_reply(connection))
        except client.HostError as error:
            reason = str(error)
        except Exception as error:  # whatever it is, no job may wait forever
            reason = f"internal error: {error!r}"
            self.logger.exception("tigerflow: the executor cannot hear its workers")
        finally:
            with self._lock:
                self._connection = None
                lost, self._jobs = self._jobs, {}
            for info in lost.values():
                self._fail(info, reason)

    def _end(self, reply: client.Reply) -> None:
        info = self._take(reply.number)
        if info is None:
            # Nobody here waits for it.
            return
        try:
            if reply.is_done:
                self._note_done(info.job, reply)
                self.report_job_success(info)
                return
            reason = reply.message
        except Exception as error:  # noqa: BLE001 -- the job must end
            reason = f"internal error: {error!r}"
        self._fail(info, reason)

    def _take(self, number: bytes) -> SubmittedJobInfo | None:
        with self._lock:
            return self._jobs.pop(number, None)

    def _note_done(self, job: Any, reply: client.Reply) -> None:
        output = str(job.output[0])
        self._starts[output] = datetime.fromisoformat(reply.started).timestamp()

    def _fail(self, info: SubmittedJobInfo, reason: str) -> None:
        self.report_job_error(info, msg=f"tigerflow: {reason}\n")

    def _write_own_record(self, output: str, record: Any) -> None:
        """Write Snakemake's metadata of an output.

        Snakemake takes the time of its own mark on an output in the making for the
        start: that would count the time that a file waits for its worker.

        By `job_hash` its report tells jobs apart. Snakemake takes the job's address in
        memory, which jobs of other windows have as well: they are forks of one process.

        Snakemake takes the input's checksum after the run: of an input that was
        replaced meanwhile, it would vouch for a content that no worker has read.
        """
        if (start := self._starts.pop(output, None)) is not None:
            record.starttime = start
            digest = hashlib.blake2b(os.fsencode(output), digest_size=7).digest()
            record.job_hash = int.from_bytes(digest)
        source = self._sources.pop(output, None)
        if source is not None and source != _state_of(record.input):
            record.input_checksums = {}
        self._write_record(output, record)


#: A job on its way to the host.
_Handed = tuple[client.RunRequest, SubmittedJobInfo]


def _places(jobs: Iterable[Any]) -> dict[str, int]:
    """Return the place of each stem: of its first target, else of its name."""
    targets = {path: place for place, path in enumerate(target_order)}
    first: dict[str, int] = {}
    for job in jobs:
        if stem := _stem(job):
            place = targets.get(str(job.output[0]), len(targets))
            first[stem] = min(first.get(stem, place), place)
    ordered = sorted(first, key=lambda stem: (first[stem], stem))
    return {stem: place for place, stem in enumerate(ordered)}


def _stem(job: Any) -> str:
    """Return the stem of the file that a job is for; "" for a job of another rule."""
    if job.is_group() or not job.output:
        return ""
    return str(job.wildcards_dict.get("stem", ""))


def _state_of(paths: Iterable[str]) -> tuple[object, ...]:
    """Return what changes with any change of files, or of links to them."""
    found: list[object] = []
    for path in map(str, paths):
        for look in (os.stat, os.lstat):
            with contextlib.suppress(OSError):
                status = look(path)
                found += (status.st_dev, status.st_ino, status.st_size)
                found += (status.st_mtime_ns, status.st_ctime_ns)
    return tuple(found)


async def _prepare(jobs: list[Any]) -> None:
    for job in jobs:
        await job.prepare()


def _client_words(job: Any) -> client.Fields | None:
    """Return the client's arguments in a job's command, or None for another command.

    By the rule's text, not by the command that Snakemake would make of it: formatting
    and splitting that takes more time than all else here.
    """
    if job.is_group():
        return None
    shape = _COMMAND.fullmatch((job.rule.shellcmd or "").strip())
    if shape is None or snakefile.workflow_directory is None:
        return None
    words = (snakefile.workflow_directory, str(os.getpid()), shape["task"])
    return [os.fsencode(word) for word in (*words, job.input[0], job.output[0])]
