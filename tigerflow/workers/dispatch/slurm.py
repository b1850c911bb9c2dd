"""Ask Slurm directly which jobs there are and how they ended, and cancel jobs.

While files are processed, no other module runs Slurm's commands; `engine.rehearsal`
does for `tigerflow check`. Snakemake's executor plugin submits and follows jobs, but it
does not know all of Slurm's states, and does not learn of a job that Slurm accepted
although `sbatch` failed. So the queue is asked about jobs that show no sign of life:
rarely, and about all of them at once.
"""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tigerflow.shortage import in_thread
from tigerflow.workers.dispatch.scheduler import JobEvent

#: States of jobs that are over: squeue(1), "job state codes".
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)

#: The states in which the job was ended from outside.
KILLED = ENDED - {"COMPLETED", "FAILED"}

#: The states in which the scheduler, or its administrator, has ended the job.
EVICTED = frozenset({"BOOT_FAIL", "CANCELLED", "NODE_FAIL", "PREEMPTED", "REVOKED"})

#: States of jobs that wait. A job that has begun enters them only by a requeue.
REQUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"})

#: Seconds that Slurm may take to answer; its own timeout for the controller is shorter.
ANSWER_S = 30.0

#: Seconds until Slurm is asked again when it has not answered.
NO_ANSWER_S = 5.0

#: The columns to ask squeue for. The comment comes last: it may have any character.
_FORMAT, _COLUMNS = "%A|%i|%T|%N|%r|%k", 6

#: A field of `scontrol show job`; its value may contain blanks.
_FIELD = re.compile(r"(?:^| )(\w+)=(.*?)(?= [\w:/]+=|$)", re.MULTILINE)

#: How many characters of a log's last line are reported.
_LONGEST = 300

#: The exit code of a job whose log or directory its node cannot open. Slurm 24.11 and
#: newer report another: there, only the missing log shows it.
_NO_FILES = "0:53"


@dataclass(frozen=True)
class QueuedJob:
    """A job, as Slurm has it."""

    number: str
    state: str
    node: str = ""
    #: Why it waits.
    reason: str = ""
    #: Contains our name of the job.
    comment: str = ""
    exit_code: str = ""
    #: The last line that it printed.
    said: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    def is_any_of(self, names: Iterable[str]) -> bool:
        """Return whether it is one of those of our names."""
        return any(name in self.comment for name in names)

    def end(self, job: str) -> JobEvent:
        """Return the event of its end, for the job of that name of ours."""
        if self.state == "COMPLETED":
            return JobEvent(job, "finished", "")
        text = f"Slurm job {self.number} is {self.state or 'no longer in the queue'}"
        return JobEvent(
            job,
            "failed",
            f"{text}{self.hint}",
            is_killed=self.state in KILLED,
            is_evicted=self.state in EVICTED,
            node=self.node,
        )

    @property
    def hint(self) -> str:
        """What is known from its node, to be added to a sentence; may be empty."""
        if self.exit_code == _NO_FILES:
            return "; its node cannot open the output directory; is it mounted there?"
        return f"; its log ends with: {self.said}" if self.said else ""


class Queue:
    """The jobs of this user in Slurm."""

    def __init__(self) -> None:
        """Ask nothing yet."""
        self._asking = asyncio.Lock()
        self._found: Mapping[str, QueuedJob] | None = None
        #: When the last look began, and when it ended.
        self._began = self._ended = float("-inf")

    @property
    def is_here(self) -> bool:
        """Whether this host has Slurm's commands."""
        return shutil.which("squeue") is not None

    async def look(self, max_age_s: float = 0.0) -> Mapping[str, QueuedJob] | None:
        """Return all jobs of this user that Slurm still has, by their numbers.

        None if Slurm does not answer. Callers that ask at the same time share the
        answer, and one that is not older than `max_age_s` seconds is returned again.
        """
        loop = asyncio.get_running_loop()
        oldest = loop.time() - max_age_s
        async with self._asking:
            if self._found is not None:
                is_fresh = self._began >= oldest
            else:
                is_fresh = loop.time() - self._ended < NO_ANSWER_S
            if not is_fresh:
                self._began = loop.time()
                self._found = await self._ask()
                self._ended = loop.time()
            return self._found

    async def _ask(self) -> Mapping[str, QueuedJob] | None:
        said = await _run(
            *("squeue", "--noheader", "--states=all", f"--user={os.getuid()}"),
            f"--format={_FORMAT}",
        )
        if said is None:
            return None
        found = {}
        for line in said.splitlines():
            words = line.split("|", 5)
            if len(words) == _COLUMNS:
                number, name, state, *more = words
                found[number] = QueuedJob(number, _word(state), *more)
                # A member of a job array is also known by its number in the array.
                found[name] = found[number]
        return found

    async def find(self, name: str) -> QueuedJob | None:
        """Return the live job of that name of ours, if Slurm has it."""
        jobs = await self.look() or {}
        live = [job for job in jobs.values() if not job.has_ended]
        return next((job for job in live if job.is_any_of([name])), None)

    async def ended(self, numbers: Iterable[str]) -> Mapping[str, QueuedJob]:
        """Return those of these jobs that are over, by the accounting database."""
        wanted = ",".join(numbers)
        if not wanted or shutil.which("sacct") is None:
            return {}
        said = await _run(
            *("sacct", "--noheader", "--parsable2", "--allocations"),
            *("--format=JobID,State,NodeList,ExitCode", f"--jobs={wanted}"),
        )
        found = {}
        for line in (said or "").splitlines():
            number, state, node, code, *_ = [*line.split("|"), "", "", ""]
            job = QueuedJob(number, _word(state), _node(node), exit_code=code)
            if job.has_ended:
                found[number] = job
        return found

    async def explain(self, number: str) -> QueuedJob | None:
        """Return what Slurm knows about a job that is over, with its log's last line.

        None if Slurm does not know the job any more.
        """
        if not (number.isdigit() and self.is_here):
            return None
        said = await _run("scontrol", "--oneliner", "show", "job", number) or ""
        fields = {name: value.strip() for name, value in _FIELD.findall(said)}
        if _word(fields.get("JobState", "")) not in ENDED:
            return (await self.ended([number])).get(number)
        state, code, log = _word(fields["JobState"]), fields.get("ExitCode", ""), None
        if path := fields.get("StdOut", "").replace("%j", number):
            log = await in_thread(_last_line, Path(path))
            if log is None and state == "FAILED":
                code = _NO_FILES
        node = _node(fields.get("NodeList", ""))
        return QueuedJob(number, state, node, exit_code=code, said=log or "")


def _word(state: str) -> str:
    """Return the state alone, of `CANCELLED by 1000` or `FAILED+`."""
    return (state.split() or [""])[0].rstrip("+")


def _node(names: str) -> str:
    """Return where a job was; "" for one that was nowhere."""
    return "" if names.startswith(("None", "(null)")) else names


def _last_line(log: Path) -> str | None:
    """Return the last line of a job's log, without those that Slurm added at its end.

    None if there is no such file.
    """
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and "error: ***" not in line]
    return said[-1][:_LONGEST] if said else ""


async def cancel(numbers: Sequence[str]) -> None:
    """Cancel jobs, if that is possible."""
    if numbers and shutil.which("scancel") is not None:
        await _run("scancel", *numbers)


async def _run(*words: str) -> str | None:
    """Return what one of Slurm's commands prints, or None if it fails."""
    # Filters and formats that the user has set would hide jobs.
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SQUEUE_", "SACCT_", "SCANCEL_"))
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=variables,
        )
    except OSError:
        # Perhaps no process can be started for now.
        return None
    try:
        said, _ = await asyncio.wait_for(process.communicate(), ANSWER_S)
    except TimeoutError:
        return None
    finally:
        # It may wait long for a controller that is down.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return None if process.returncode else said.decode(errors="replace")
