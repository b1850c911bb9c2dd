"""Which of Slurm's reasons pass with time."""

import pytest

from tigerflow.workers.dispatch.slurm_reasons import (
    Refusal,
    never_starts,
    refusal_by_limit,
)

#: As sbatch of Slurm 22.05 ends, whatever the limit.
VIOLATES = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit "
    "limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(
    "reason",
    [
        "AssocMaxWallDurationPerJobLimit",
        "AssocMaxGRESPerNode",
        "AssocMaxCpuMinutesPerJobLimit",
        "InvalidAccount",
        "InvalidQOS",
        "MaxMemPerLimit",
        "PartitionTimeLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxMemoryPerJob",
        "QOSMaxNodePerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMinCpuNotSatisfied",
        "QOSMinGRES",
        "QOSNotAllowed",
        "ReservationInvalid",
    ],
)
def test_job_over_a_limit_of_its_own_never_starts(reason):
    assert never_starts(reason)
    assert refusal_by_limit(f"{reason}; {VIOLATES}") in {Refusal.FOR_GOOD, None}


@pytest.mark.parametrize(
    "reason",
    [
        "AssocGrpCpuLimit",
        "AssocMaxJobsLimit",
        "BeginTime",
        "JobHeldAdmin",
        "MaxCpuPerAccount",
        "None",
        "PartitionDown",
        "PartitionNodeLimit",
        "Priority",
        "QOSGrpGRES",
        "QOSMaxCpuPerUserLimit",
        "QOSMaxJobsPerUserLimit",
        "ReqNodeNotAvail, UnavailableNodes:n1",
        "Resources",
    ],
)
def test_job_that_waits_for_others_starts_later(reason):
    assert not never_starts(reason)


@pytest.mark.parametrize(
    "limit",
    [
        "AssocGrpCPUMinutesLimit",
        "AssocGrpSubmitJobsLimit",
        "AssocMaxJobsLimit",
        "AssocMaxSubmitJobLimit",
        "MaxCpuRunMinsPerUser",
        "MaxJobsPerAccount",
        "MaxSubmitJobsPerAccount",
        "QOSGrpSubmitJobsLimit",
        "QOSMaxJobsPerUserLimit",
        "QOSMaxSubmitJobPerUserLimit",
    ],
)
def test_limit_on_the_number_of_jobs_refuses_one_for_now(limit):
    assert refusal_by_limit(f"{limit}; {VIOLATES}") is Refusal.FOR_NOW


@pytest.mark.parametrize(
    "limit",
    [
        "AssocGrpCpuLimit",
        "AssocMaxWallDurationPerJobLimit",
        "MaxCpuPerAccount",
        "QOSGrpGRES",
        "QOSMaxCpuPerUserLimit",
        "QOSMaxGRESPerUser",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMinGRES",
    ],
)
def test_limit_that_the_job_exceeds_alone_refuses_it_for_good(limit):
    assert refusal_by_limit(f"{limit}; {VIOLATES}") is Refusal.FOR_GOOD


@pytest.mark.parametrize(
    "said", [VIOLATES, "Invalid qos specification", "unrecognized option '--QOSMax'"]
)
def test_text_without_the_name_of_a_limit_says_nothing(said):
    assert refusal_by_limit(said) is None
