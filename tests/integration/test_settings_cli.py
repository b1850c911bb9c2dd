"""`tigerflow settings`, and what other commands say of variables."""

import os
import subprocess
import sys

import pytest
from runs import DEADLINE_S
from services import TREE
from single_task import task

HEAD = {"name": "head", "module": "tasks.py:Head"}


@pytest.fixture
def run(tmp_path):
    def run_with(**variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TIGERFLOW_")}
        return subprocess.run(
            [sys.executable, "-m", "tigerflow", "settings"],
            cwd=tmp_path,
            env=kept | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    return run_with


def test_each_setting_is_printed_with_value_unit_and_origin(run, tmp_path):
    (tmp_path / ".env").write_text("TIGERFLOW_WORKER_GRACE=5\n")

    result = run(TIGERFLOW_MAILBOX_POLL_MS="20")

    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "TIGERFLOW_PIPELINE_POLL_INTERVAL: 3 s (default)"
    assert "TIGERFLOW_WORKER_GRACE: 5 s (.env)" in lines
    assert "TIGERFLOW_MAILBOX_POLL_MS: 20 ms (environment)" in lines
    assert lines[-1] == (
        "Set them in the environment, in .env, or in the file named by "
        "TIGERFLOW_ENV_FILE."
    )


def test_wrong_and_unknown_settings_are_reported_with_all_others(run):
    result = run(TIGERFLOW_WORKER_GRACE="0", TIGERFLOW_WORKER_GRASE="1")

    assert result.returncode == 2
    assert "TIGERFLOW_WORKER_GRACE: 0 s (environment)\n" in result.stdout
    assert "TIGERFLOW_MAILBOX_POLL_MS: 100 ms (default)\n" in result.stdout
    assert result.stderr == (
        "Warning: TIGERFLOW_WORKER_GRASE is not a setting of TigerFlow; "
        "did you mean TIGERFLOW_WORKER_GRACE?\n"
        "Error: TIGERFLOW_WORKER_GRACE='0' is not a whole number greater than 0\n"
    )


def test_file_that_cannot_be_read_is_one_sentence(run):
    result = run(TIGERFLOW_ENV_FILE="gone.env")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: TIGERFLOW_ENV_FILE='gone.env' cannot be read: "
        "No such file or directory\n"
    )


@pytest.mark.snakemake
def test_service_warns_once_about_an_unknown_variable(flow):
    flow.environment["TIGERFLOW_PIPELINE_POLL_INTERVALL"] = "1"
    flow.add_module(TREE)
    flow.write(HEAD)
    flow.add_inputs("a")

    assert flow.once() == 0

    said = "TIGERFLOW_PIPELINE_POLL_INTERVALL is not a setting of TigerFlow; "
    lines = [line for line in flow.said.splitlines() if said in line]
    assert len(lines) == 1
    assert "| WARNING  |" in lines[0]
    assert lines[0].endswith("did you mean TIGERFLOW_PIPELINE_POLL_INTERVAL?")


def test_check_warns_about_an_unknown_setting(flow):
    flow.environment["TIGERFLOW_QQ"] = "1"
    flow.add_module(TREE)
    flow.write(HEAD)

    assert flow.command("check", flow.pipeline).wait(DEADLINE_S) == 0

    assert "\nWarning: TIGERFLOW_QQ is not a setting of TigerFlow; " in flow.said


@pytest.mark.parametrize("words", [["--version"], ["tasks", "list"], ["run", "--help"]])
def test_command_that_needs_no_setting_does_not_mind_a_wrong_one(flow, words):
    flow.environment["TIGERFLOW_WORKER_GRACE"] = "soon"

    assert flow.command(*words).wait(DEADLINE_S) == 0


def test_a_task_by_itself_warns_about_an_unknown_setting(bench):
    bench.environment["TIGERFLOW_QQ"] = "1"

    service = bench.once(task())

    said = "TIGERFLOW_QQ is not a setting of TigerFlow; "
    messages = [each for each in service.messages() if "TIGERFLOW_" in each]
    assert messages == [f"WARNING {said}'tigerflow settings' shows them all"]
