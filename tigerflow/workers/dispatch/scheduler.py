"""How jobs are submitted and followed, whatever runs them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class SubmitError(Exception):
    """Nothing can be submitted just now."""


@dataclass(frozen=True)
class JobEvent:
    """What the scheduler, or Snakemake on its behalf, says of a job."""

    #: Our name of the job; empty for the submission as a whole.
    job: str
    #: `submitted`, `finished`, `failed`; `ended` for the submission.
    kind: str
    #: The scheduler's number of a job that is submitted, its words on one that failed.
    text: str
    #: Whether what failed was ended from outside: cancelled, lost, out of time.
    is_killed: bool = False
    #: Whether the scheduler takes no jobs just now.
    is_outage: bool = False
    #: Whether the scheduler itself ended what failed, as when it is cancelled,
    #: preempted, or its node lost.
    is_evicted: bool = False
    #: Whether the scheduler has taken it, but would never start it.
    is_stuck: bool = False
    #: Where the job was, as far as that is known.
    node: str = ""
    #: Whether it is Slurm for sure that has the job.
    is_in_slurm: bool = False


class Submission(Protocol):
    """Some jobs on their way through the scheduler."""

    def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the jobs, until all have ended; last is `ended`."""

    def cancel(self, jobs: Sequence[str] = ()) -> None:
        """Cancel these jobs, or all, unless they have ended."""

    def end(self, job: str, state: str) -> None:
        """Take a job for ended, in a state of Slurm's, unless that is known."""

    def kill(self) -> None:
        """End it at once; its jobs stay."""


#: Submits jobs of a task, by our names of them, to other nodes than these, where the
#: scheduler lets one choose; may raise SubmitError.
Submit = Callable[[str, Sequence[str], Sequence[str]], Submission]
