"""What is changed of the Slurm plugin: what it asks, guesses and says of a job."""

import asyncio
import sys
from types import SimpleNamespace

import pytest

from tigerflow.engine import slurm_plugin
from tigerflow.engine.slurm_plugin import adapt_slurm_plugin, leave_allocation


async def _ask(command, _logger):
    states = {"7": "CANCELLED by 1000", "8": "RUNNING", "9": ""}
    return (None, None) if command == "fails" else (states, 0.1)


@pytest.fixture
def plugin(monkeypatch):
    """A plugin with the functions that are replaced."""
    made = SimpleNamespace(
        delete_slurm_environment=lambda: None,
        get_max_array_size=lambda: -1,
        get_default_partition=lambda _job, _logger: "default",
        get_account=lambda _logger: "guess",
        validate_or_get_slurm_job_id=lambda first, _said: first,
        query_job_status=_ask,
        get_submit_command=lambda _job, params, **_: params["comment_str"],
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


def test_environment_wins_over_what_the_plugin_guesses(plugin, monkeypatch):
    assert plugin.get_default_partition("job", "logger") == "default"
    assert plugin.get_account("logger") == "guess"
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
