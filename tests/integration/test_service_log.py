"""`run.log`: what the service logs, whatever the terminal shows."""

import shlex

import pytest
from runs import lines, wait_until

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}
COPY = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text())
"""


@pytest.fixture
def flow(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    return flow


def run_log(flow):
    return lines(flow.out / ".tigerflow" / "run.log")


def test_run_log_has_every_line_of_every_run(flow):
    flow.add_inputs("a")
    assert flow.once() == 0
    flow.add_inputs("b")
    assert flow.once() == 0

    assert run_log(flow) == flow.said.splitlines()
    messages = [line.split(" | ")[-1] for line in run_log(flow)]
    assert (
        messages
        == [
            "Starting pipeline execution",
            "Staged 1 new file",
            "Completed processing 1 file",
            "Shutting down pipeline",
            "Pipeline shutdown complete",
        ]
        * 2
    )


def test_a_start_that_finds_all_done_says_so(flow):
    flow.add_inputs("a")
    flow.once()
    first = len(run_log(flow))

    assert flow.once() == 0

    messages = [line.split(" | ", 1)[1] for line in run_log(flow)[first:]]
    assert messages[1] == "INFO     | Nothing to do: 1 file is done"


def test_a_start_that_finds_failed_files_says_where_to_look(flow):
    flow.add_inputs("a", "b")
    (flow.inputs / "b.txt").write_bytes(b"\xff")
    flow.once()
    first = len(run_log(flow))

    assert flow.once() == 1

    out = shlex.quote(str(flow.out))
    messages = [line.split(" | ", 1)[1] for line in run_log(flow)[first:]]
    assert messages[1] == (
        "WARNING  | 1 file failed before; "
        f"see `tigerflow report {out}`, or `tigerflow retry {out}`"
    )
    assert "Nothing to do" not in flow.said


def test_refused_service_writes_nothing_to_the_log_of_the_other(flow):
    process = flow.watch()
    flow.until_said("Starting pipeline execution")
    before = run_log(flow)

    assert flow.once() == 1

    assert "Pipeline is already running" in flow.said
    assert run_log(flow) == before
    flow.stop(process)


def test_error_that_ends_the_service_is_in_its_log(flow):
    flow.out.mkdir(exist_ok=True)
    # Snakemake cannot run then.
    (flow.out / ".snakemake").touch()

    assert flow.watch().wait(60) == 1

    told = [line for line in flow.said.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    logged = [line.split(" | ")[-1] for line in run_log(flow) if " | ERROR " in line]
    assert logged == [told[0].removeprefix("Error: ")]


def test_the_journal_tells_whether_a_run_ended_of_itself(flow):
    flow.add_inputs("a")
    flow.once()
    process = flow.watch()
    wait_until(lambda: len(flow.events("run_started")) == 2)
    assert flow.stop(process) == 130

    ends = [event["reason"] for event in flow.events("run_stopped")]
    assert ends == ["finished", "stopped"]
