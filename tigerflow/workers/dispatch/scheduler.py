"""Submit and follow jobs, whatever scheduler runs them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class SubmitError(Exception):
    """Nothing can be submitted for now; the text says why."""


@dataclass(frozen=True)
class JobEvent:
    """What the scheduler, or Snakemake on its behalf, reports on a job."""

    #: Our name of the job; empty for the submission as a whole.
    job: str
    #: `submitted`, `finished`, `failed`; `ended` for the submission.
    kind: str
    #: The scheduler's number of a job that is submitted, its words on one that failed.
    text: str
    #: Whether what failed was ended from outside: cancelled, lost, out of time.
    is_killed: bool = False
    #: Whether the scheduler accepts no jobs for now.
    is_outage: bool = False
    #: Whether the scheduler itself ended what failed, as when it is cancelled,
    #: preempted, or its node lost.
    is_evicted: bool = False
    #: Whether the scheduler has accepted it, but would never start it.
    is_stuck: bool = False
    #: Where the job was; empty if unknown.
    node: str = ""
    #: Whether the scheduler is known to be Slurm.
    is_in_slurm: bool = False


class Submission(Protocol):
    """Jobs that were submitted together, until they are over."""

    def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the jobs, until all have ended; last is `ended`."""

    def cancel(self, jobs: Sequence[str] = ()) -> None:
        """Cancel these jobs, or all, unless they have ended."""

    def end(self, job: str, state: str) -> None:
        """Note that a job has ended, in a state of Slurm's, unless that is known."""

    def kill(self) -> None:
        """End it at once; its jobs stay."""


#: Submits jobs of a task, by our names of them, to other nodes than these, where the
#: scheduler lets one choose; may raise SubmitError.
Submit = Callable[[str, Sequence[str], Sequence[str]], Submission]
