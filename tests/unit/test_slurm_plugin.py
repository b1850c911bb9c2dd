"""What is changed of the Slurm plugin: what it asks, guesses and says of a job."""

import asyncio
import sys
from types import SimpleNamespace

import pytest

from tigerflow.engine import slurm_plugin
from tigerflow.engine.slurm_plugin import (
    adapt_slurm_plugin,
    leave_allocation,
    submit_once,
)


async def _ask(command, _logger):
    states = {"7": "CANCELLED by 1000", "8": "RUNNING", "9": ""}
    return (None, None) if command == "fails" else (states, 0.1)


# As the plugin's own.
def _default_partition(job, logger):
    return f"default of {job} by {logger}"


def _account(logger):
    return f"guess by {logger}"


def _job_number(job_id, output):
    return f"{job_id} {output}"


def _command(job, params, settings=None):
    assert job.resources is not settings
    return params["comment_str"]


@pytest.fixture
def plugin(monkeypatch):
    """A plugin with the functions that are replaced."""
    made = SimpleNamespace(
        delete_slurm_environment=lambda: None,
        get_max_array_size=lambda: -1,
        get_default_partition=_default_partition,
        get_account=_account,
        validate_or_get_slurm_job_id=_job_number,
        query_job_status=_ask,
        get_submit_command=_command,
    )
    monkeypatch.setitem(sys.modules, slurm_plugin._PLUGIN, made)
    for name in ("SBATCH_PARTITION", "SBATCH_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    adapt_slurm_plugin()
    return made


def comment(plugin, **resources):
    job = SimpleNamespace(resources=resources)
    return plugin.get_submit_command(job, {"comment_str": "rule_x"}, settings=None)


def test_comment_of_the_user_comes_before_that_of_snakemake(plugin):
    assert comment(plugin, slurm_comment="project 42") == "project 42 rule_x"
    assert comment(plugin) == "rule_x"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sbatch --comment x", "sbatch --comment x --no-requeue"),
        # As a profile says it.
        ("sbatch --requeue", "sbatch --requeue"),
        ("sbatch --no-requeue -n 1", "sbatch --no-requeue -n 1"),
        (
            "sbatch --comment 'a --requeue'",
            "sbatch --comment 'a --requeue' --no-requeue",
        ),
    ],
)
def test_slurm_starts_no_worker_again_unless_asked(plugin, words, expected):
    plugin.get_submit_command = lambda *_given, **_more: words
    submit_once()
    assert plugin.get_submit_command("job", {}) == expected


def test_environment_wins_over_what_the_plugin_guesses(plugin, monkeypatch):
    assert plugin.get_default_partition("job", "us") == "default of job by us"
    assert plugin.get_account("us") == "guess by us"
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    assert plugin.get_default_partition("job", "logger") == "gpu"
    assert plugin.get_account("logger") == "lab"


def test_state_of_a_job_that_was_cancelled_is_one_that_the_plugin_knows(plugin):
    states, duration = asyncio.run(plugin.query_job_status("sacct", "logger"))
    assert states == {"7": "CANCELLED", "8": "RUNNING", "9": ""}
    assert duration == 0.1
    assert asyncio.run(plugin.query_job_status("fails", "logger")) == (None, None)


def test_plugin_is_adapted_once(plugin):
    before = vars(plugin).copy()
    adapt_slurm_plugin()
    assert vars(plugin) == before


def test_allocation_is_left_but_not_the_cluster(monkeypatch):
    variables = {"SLURM_JOB_ID": "7", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/h"}
    monkeypatch.setattr(slurm_plugin.os, "environ", variables)
    leave_allocation()
    assert variables == {"SLURM_CONF": "/etc/slurm.conf", "HOME": "/h"}
