"""What schedulers and their Snakemake plugins say of a job, made plain.

One line, in the scheduler's own words. Whether a refusal may pass is read from them,
too.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tigerflow.log import configure
from tigerflow.workers.dispatch.slurm_reasons import Refusal, refusal_by_limit

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
LONGEST = 500


def _nameless_file() -> int:
    # Pythons that are built for old systems, as conda's are, cannot make the first.
    if hasattr(os, "memfd_create"):
        return os.memfd_create("said")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class ProgramOutput:
    """What the scheduler's programs print, unless a plugin reads it.

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


def slurm_state(message: str) -> str | None:
    """Return Slurm's state of a job that failed, if a plugin's message has one."""
    state = _STATE.search(message)
    return None if state is None else state[1]


def plain(text: str) -> str:
    """Return the scheduler's own words, or a plugin's, on one line."""
    if (said := _SAID.search(text)) is not None:
        return one_line(said[1])
    if (missing := _NO_SLURM.search(text)) is not None:
        return (
            f"there is no Slurm here (no {missing[1]}); start TigerFlow on a login "
            "node of the cluster"
        )
    text = text.partition(_ADDED)[0].removeprefix(_SUBMITTING)
    return " ".join(text.split())[:LONGEST].removesuffix(".")


def passes(said: str) -> bool:
    """Tell whether the scheduler may take the same job later."""
    refusal = refusal_by_limit(said)
    if refusal is None:
        return _OUTAGE.search(said) is not None
    return refusal is Refusal.FOR_NOW


def said_on_node(logs: Sequence[str]) -> str:
    """Return what Slurm has said in the job's log first: of its memory, perhaps."""
    for log in logs:
        with contextlib.suppress(OSError):
            said = _NODE_SAID.search(Path(log).read_text(errors="replace"))
            if said is not None:
                return said[1].strip()
    return ""


def one_line(said: str) -> str:
    """Return what a program of the scheduler's has said, without its name."""
    lines = _SPEAKER.sub("", said).splitlines()
    return "; ".join(" ".join(line.split()) for line in lines if line.strip())
