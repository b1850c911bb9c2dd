"""What TigerFlow uses of Snakemake's executor plugins means what it takes it for."""

import dataclasses
import inspect
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
import snakemake_executor_plugin_cluster_generic as generic
import snakemake_executor_plugin_slurm as slurm
import yte
from snakemake.cli import get_argument_parser
from snakemake.workflow import Workflow
from snakemake_interface_executor_plugins.executors.base import (
    AbstractExecutor,
    SubmittedJobInfo,
)
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecMode

from tigerflow.engine import scheduler_words
from tigerflow.engine.slurm_plugin import is_of_slurm

pytestmark = pytest.mark.snakemake

PLUGINS = pytest.mark.parametrize("plugin", [slurm, generic])

#: What is replaced, where it is, and what it takes.
REPLACED = {
    "report_job_submission": (RealExecutor, ["self", "job_info", "register_job"]),
    "report_job_success": (AbstractExecutor, ["self", "job_info"]),
    "report_job_error": (AbstractExecutor, ["self", "job_info", "msg", "kwargs"]),
    "format_job_exec": (RealExecutor, ["self", "job"]),
    "_wait_for_jobs": (RemoteExecutor, ["self"]),
    "cancel": (RemoteExecutor, ["self"]),
}

SHIPPED = sorted((Path(__file__).parents[2] / "profiles").glob("*/profile.yaml"))


#: Some of what is adapted came with a later plugin.
VERSION = tuple(
    map(int, metadata.version("snakemake-executor-plugin-slurm").split("."))
)


def since(*version):
    return pytest.mark.skipif(version > VERSION, reason="an older plugin")


def words(owner):
    """Return the source of a function or class, on one line."""
    return " ".join(inspect.getsource(owner).split())


def parameters(function):
    return [*inspect.signature(function).parameters]


@pytest.mark.parametrize("name", REPLACED)
def test_replaced_text_occurs_on_the_page(name):
    owner, expected = REPLACED[name]
    assert name in vars(owner)
    assert parameters(vars(owner)[name]) == expected


@PLUGINS
@pytest.mark.parametrize("name", sorted(REPLACED.keys() - {"report_job_submission"}))
def test_no_plugin_has_its_own_in_place_of_what_is_replaced(plugin, name):
    owner, _ = REPLACED[name]
    assert getattr(plugin.Executor, name) is vars(owner)[name]


@PLUGINS
def test_submission_is_reported_by_way_of_what_is_replaced(plugin):
    assert "report_job_submission" not in vars(plugin.Executor)
    # That one keeps the list of active jobs.
    calls = "super().report_job_submission(job_info, register_job=register_job)"
    assert calls in inspect.getsource(RemoteExecutor.report_job_submission)


def test_jobs_are_followed_by_a_coroutine():
    assert inspect.iscoroutinefunction(RemoteExecutor._wait_for_jobs)


@PLUGINS
def test_plugin_yields_the_jobs_that_continue(plugin):
    check = plugin.Executor.check_active_jobs
    assert inspect.isasyncgenfunction(check)
    assert parameters(check) == ["self", "active_jobs"]


@PLUGINS
def test_plugin_cancels_jobs_from_a_list(plugin):
    assert parameters(plugin.Executor.cancel_jobs) == ["self", "active_jobs"]


def test_job_is_known_with_its_number():
    info = SubmittedJobInfo(job="job")
    assert (info.job, info.external_jobid) == ("job", None)


def test_remote_executor_has_what_is_read_of_it():
    for name in ("tmpdir", "next_seconds_between_status_checks"):
        assert isinstance(vars(RemoteExecutor)[name], property)
    assert "self.wait = True" in inspect.getsource(RemoteExecutor.__init__)
    fields = {field.name for field in dataclasses.fields(CommonSettings)}
    assert "init_seconds_before_status_checks" in fields


@PLUGINS
@pytest.mark.parametrize("part", ["prefix", "suffix"])
def test_plugin_may_put_commands_around_that_of_a_job(plugin, part):
    assert parameters(getattr(plugin.Executor, f"get_job_exec_{part}")) == [
        "self",
        "job",
    ]


def test_suffix_says_how_a_command_has_ended():
    source = inspect.getsource(generic.Executor.get_job_exec_suffix)
    assert "get_jobfinished_marker" in source
    assert "|| " in source


@since(2, 6)
def test_slurm_plugin_submits_in_threads():
    source = inspect.getsource(slurm.Executor.__post_init__)
    assert "self._job_submission_executor = ThreadPoolExecutor(" in source
    assert slurm.ThreadPoolExecutor is ThreadPoolExecutor


def test_slurm_plugin_tells_a_state_as_it_is_read():
    source = inspect.getsource(slurm.Executor.check_active_jobs)
    assert "SLURM status is: '{status}'" in source
    assert scheduler_words.slurm_state("SLURM status is: 'TIMEOUT'.") == "TIMEOUT"


def test_slurm_plugin_tells_what_sbatch_said_as_it_is_read():
    source = inspect.getsource(slurm.Executor.run_job)
    assert "The error message was '{e.output.strip()}'.\\n" in source
    if VERSION >= (2, 7):
        assert scheduler_words._SUBMITTING in source


@pytest.mark.parametrize(
    ("owner", "call"),
    [
        (slurm.Executor, "delete_slurm_environment()"),
        pytest.param(
            slurm.Executor.__post_init__, "get_max_array_size()", marks=since(2, 6)
        ),
        (slurm.Executor.get_partition_arg, "get_default_partition(job, self.logger)"),
        (slurm.Executor.get_account_arg, "get_account(self.logger)"),
        (slurm.Executor.run_job, "get_submit_command( job,"),
        (slurm.Executor.run_job, "validate_or_get_slurm_job_id(slurm_jobid, out)"),
        (slurm.Executor.check_active_jobs, "query_job_status("),
    ],
)
def test_slurm_plugin_calls_what_is_replaced_in_it(owner, call):
    assert call.replace(" ", "") in words(owner).replace(" ", "")
    assert callable(getattr(slurm, call.partition("(")[0]))


def test_slurm_plugin_ends_comments_with_our_name_of_a_job():
    source = inspect.getsource(slurm.Executor.run_job)
    assert 'comment_str = f"rule_{job.name}_wildcards_{wildcard_str}"' in source
    assert '"comment_str": comment_str' in source
    submission = inspect.getsource(slurm.get_submit_command)
    assert "--comment {safe_quote(params.comment_str)}" in submission


def test_slurm_plugin_names_clusters_that_jobs_go_to():
    source = inspect.getsource(slurm.Executor.run_job)
    assert "self._submitted_job_clusters.add(cluster_val)" in source


def test_slurm_plugin_excludes_nodes_that_it_has_noted():
    assert is_of_slurm(slurm.Executor.__new__(slurm.Executor))
    prepare = inspect.getsource(slurm.Executor.__post_init__)
    assert "self._failed_nodes = set()" in prepare
    source = inspect.getsource(slurm.Executor.run_job)
    if VERSION >= (2, 6):
        assert "failed_nodes=self._failed_nodes" in source
        source = inspect.getsource(slurm.get_submit_command).replace(
            "failed", "self._failed"
        )
    assert "--exclude={','.join(self._failed_nodes)}" in source


def test_text_that_is_taken_away_is_what_snakemake_adds():
    source = inspect.getsource(RemoteExecutor.print_job_error)
    added = "".join(source.split('"')[i] for i in (3, 5))
    assert added.startswith(scheduler_words._ADDED)


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda path: path.parent.name)
def test_profile_has_options_that_snakemake_has(profile):
    options = get_argument_parser()._option_string_actions
    # As Snakemake reads it.
    given = yte.process_yaml(profile.read_text(), require_use_yte=True)
    assert [key for key in given if f"--{key}" not in options] == []


def test_our_executor_has_an_option_of_its_own():
    assert "--tigerflow-workers-profile" in get_argument_parser()._option_string_actions


def test_snakemake_in_a_job_recognises_the_job():
    assert isinstance(vars(Workflow)["remote_exec"], property)
    assert isinstance(vars(Workflow)["workdir_init"], property)
    assert ExecMode.REMOTE.item_to_choice() == "remote"
    assert "ExecMode.REMOTE" in inspect.getsource(RemoteExecutor.get_exec_mode)
