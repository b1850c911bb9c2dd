"""Decide whether Slurm's reason passes with time, of jobs that it refuses or lets wait.

The reasons are those of `enum job_state_reason` in slurm.h, as `squeue` and `sbatch`
print them. Slurm's pages "Job Reason Codes" and "Resource Limits" explain them.
"""

import re
from enum import Enum, auto

#: Limits on one job alone: `QOSMaxWallDurationPerJobLimit`, `AssocMaxGRESPerNode`,
#: `QOSMinGRES`, … They exist for each of the resources that Slurm counts.
_OWN_SIZE = re.compile(
    r"(QOS|Assoc)(Max\w+Per(Job|Node)(Limit)?|Min\w+)|MaxMemPerLimit", re.ASCII
)

#: Limits on how many jobs there are, or on what those of a group have used so far.
_OF_OTHERS = re.compile(r"\w*(Jobs|SubmitJob|Grp\w*Minutes|RunMins)\w*", re.ASCII)

#: Reasons that never pass: what the job asks for does not exist, or is not allowed.
_IMPOSSIBLE = frozenset(
    {
        "AccountNotAllowed",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionTimeLimit",
        "QOSNotAllowed",
        "ReservationDeleted",
        "ReservationInvalid",
    }
)

#: How sbatch names a limit in its error: by a single word.
_LIMIT = re.compile(
    r"(?:^|[\s;])((?:QOS|Assoc(?:Grp|Max))\w+|Max\w+Per(?:Account|User|Limit))(?=[\s;]|$)",
    re.ASCII,
)


class Refusal(Enum):
    """Whether a job that is refused now would be taken later."""

    #: Never, as it is.
    FOR_GOOD = auto()
    #: Once other jobs have ended.
    FOR_NOW = auto()


def refusal_by_limit(said: str) -> Refusal | None:
    """Return what a limit that sbatch names means; None when it names none.

    Unless the limit is a number of jobs, Slurm has looked at this job alone: a job that
    asks for more than all jobs of a user may have together is not accepted later
    either.
    """
    words = {match[1] for match in _LIMIT.finditer(said)}
    if not words:
        return None
    passes = any(map(_OF_OTHERS.fullmatch, words))
    return Refusal.FOR_NOW if passes else Refusal.FOR_GOOD


def never_starts(reason: str) -> bool:
    """Return whether a job that waits for this reason waits in vain.

    Limits on all jobs of a user or an account pass when other jobs have ended.
    """
    return reason in _IMPOSSIBLE or _OWN_SIZE.fullmatch(reason) is not None
