"""What Slurm says of a job that it would take."""

import pytest

from tigerflow.engine.rehearsal import plain_verdict

WHERE = "using 1 processors on nodes n1 in partition main"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        # Slurm 22.05 to 25.11
        ("Job 5 to start at 13:04:36 {}", "it would start at 13:04:36 {}"),
        # Slurm 26.05, also with --clusters
        ("Job 5 to start at 13:04:36 a {}", "it would start at 13:04:36 {}"),
        (
            "Job 5 to start at 13:04:36 on cluster a a {}",
            "it would start at 13:04:36 on cluster a {}",
        ),
        # As it may once be
        (
            "Job 5 to start at 13:04:36 on cluster a {}",
            "it would start at 13:04:36 on cluster a {}",
        ),
        ("Invalid qos specification", "Invalid qos specification"),
    ],
)
def test_verdict_of_each_version_of_slurm_reads_the_same(said, verdict):
    assert plain_verdict(said.format(WHERE)) == verdict.format(WHERE)
