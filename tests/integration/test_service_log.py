"""`run.log`: what the service logs, whatever the terminal shows."""

import os
import shlex
import subprocess
import sys

import pytest
from runs import DEADLINE_S, lines, wait_until

from tigerflow.rundir.events import RunStarted, RunStopped, TaskFailed

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

    assert run_log(flow) == [line for line in flow.said.splitlines() if "|" in line]
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


def staged(flow):
    messages = [line.split(" | ")[-1] for line in run_log(flow)]
    return [each for each in messages if each.startswith("Staged")]


def test_files_that_only_a_new_task_has_to_process_are_not_called_new(flow):
    flow.add_inputs("a", "b")
    flow.once()
    more = {"module": "tasks.py:Work", "depends_on": "work", "input_ext": ".out"}
    flow.write(WORK, {"name": "more", **more}, {"name": "most", **more})
    flow.add_inputs("c")

    flow.once()

    assert sorted(staged(flow)) == [
        "Staged 1 new file",
        "Staged 2 files; only more, most have work to do",
        "Staged 2 new files",
    ]


def test_files_that_are_tried_again_are_not_called_new(flow):
    (flow.inputs / "b.txt").write_bytes(b"\xff")
    flow.once()

    flow.once("--retry-failed")

    assert staged(flow) == ["Staged 1 new file", "Staged 1 file again"]


def test_a_failed_file_is_logged_with_the_command_that_tells_its_story(flow):
    flow.add_inputs("a", "b")
    (flow.inputs / "b.txt").write_bytes(b"\xff")

    assert flow.once() == 1

    out = shlex.quote(str(flow.out))
    command = f"tigerflow report {out} b.txt"
    assert f"| 1 failed file; `{command}` shows why" in flow.said


def test_lines_name_the_worker_where_a_task_has_several(flow):
    flow.add_module("""
    class Work(LocalTask):
        def run(context, input_file, output_file):
            note(f"at {input_file.stem}")
            wait_for("go")
            raise ValueError(input_file.stem)
    """)
    flow.write(WORK | {"workers": 2})
    flow.add_inputs("a", "b")
    process = flow.watch("--once")
    wait_until(lambda: len(flow.noted("at")) == 2, "both workers have a file")
    (flow.root / "go").touch()
    assert process.wait(DEADLINE_S) == 1

    workers = {event.file: event.worker for event in flow.events(TaskFailed)}
    assert sorted(workers.values()) == [1, 2]
    log = (flow.out / ".tigerflow" / "logs" / "work.log").read_text()
    for stem, number in workers.items():
        failed = f"{stem}.txt failed: ValueError: {stem} (see work/{stem}.err)"
        assert f"| [work] worker {number}: {failed}" in "\n".join(run_log(flow))
        line = f"[worker {number}] Failed processing: {stem}.txt: ValueError: {stem}\n"
        assert line in log
        assert f"[worker {number}] Setting up task\n" in log


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
        "WARNING  | 1 file failed earlier; "
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

    assert flow.watch().wait(DEADLINE_S) == 1

    told = [line for line in flow.said.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    logged = [line.split(" | ")[-1] for line in run_log(flow) if " | ERROR " in line]
    assert logged == [told[0].removeprefix("Error: ")]


def test_the_journal_tells_whether_a_run_ended_of_itself(flow):
    flow.add_inputs("a")
    flow.once()
    process = flow.watch()
    wait_until(lambda: len(flow.events(RunStarted)) == 2)
    assert flow.stop(process) == 130

    ends = [event.reason for event in flow.events(RunStopped)]
    assert ends == ["finished", "stopped"]


# What it prints beside the log


def serve(flow, *options, **more):
    words = [sys.executable, "-m", "tigerflow", "watch", "--once", *options]
    paths = [flow.pipeline, flow.inputs, flow.out]
    return subprocess.run(
        [*words, *map(str, paths)],
        env=flow.environment,
        cwd=flow.root,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        **more,
    )


def test_the_summary_is_on_standard_output_and_the_log_on_standard_error(flow):
    flow.add_inputs("a", "b")
    (flow.inputs / "b.txt").write_bytes(b"\xff")

    done = serve(flow, capture_output=True)

    assert done.returncode == 1
    out = shlex.quote(str(flow.out))
    assert done.stdout.splitlines() == [
        "1 of 2 files done, 1 failed",
        f"  work  {'━' * 20}{'x' * 20}  1 of 2  1 failed",
        "Failed:",
        "  work/b.err",
        f"See why: tigerflow report {out} work/b.err",
    ]
    assert done.stderr.splitlines() == run_log(flow)


def test_unread_summary_does_not_change_the_exit_code(flow):
    flow.add_inputs("a")
    reader, writer = os.pipe()
    os.close(reader)

    done = serve(flow, stdout=writer, stderr=subprocess.PIPE)

    os.close(writer)
    assert done.returncode == 0
    assert done.stderr.splitlines() == run_log(flow)


def test_a_service_that_does_not_start_prints_no_summary(flow):
    done = serve(flow, "--workers-profile=nowhere", capture_output=True)

    assert (done.returncode, done.stdout) == (1, "")
