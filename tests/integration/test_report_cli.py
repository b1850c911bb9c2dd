"""`tigerflow report` on real runs: by the service, by plain Snakemake, and on none."""

import contextlib
import copy
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import time
from datetime import datetime

import pytest
from flows import HEAD, LEFT, RIGHT, TIGERFLOW
from runs import DEADLINE_S, World, wait_until
from services import TREE, Watched

from tigerflow.rundir.events import (
    RunStarted,
    TaskStopped,
    TaskTried,
    WorkerChanged,
)

SLOW = """
class Slow(LocalTask):
    def run(context, input_file, output_file):
        note(f"slow {input_file.stem}")
        wait_for("go")
        output_file.write_text("slow")
"""


@pytest.fixture
def root(weird_tmp_path):
    return weird_tmp_path


@pytest.fixture
def flow(flow):
    """A tree of tasks, and files of which one fails in the head, one on the left."""
    flow.add_module(TREE)
    flow.add_inputs("a", "bad", "left")
    return flow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The same, processed by the service; to be looked at only."""
    with World(tmp_path_factory.mktemp('it\'s "$(x)" & {y} é')) as world:
        flow = Watched(world)
        flow.add_module(TREE)
        flow.add_inputs("a", "bad", "left")
        flow.write(HEAD, LEFT, RIGHT)
        assert flow.once() == 1
        yield flow


def report(flow, *options):
    """Run the command; return its exit code and what it printed."""
    return command("report", flow, *options)


def command(name, flow, *options):
    done = flow.call(*TIGERFLOW, name, flow.out, *options)
    return done.returncode, done.stdout + done.stderr


def moved(flow, out, root):
    """Return a flow with another output directory, whose commands start in `root`."""
    other = copy.copy(flow)
    other.out, other.root = out, root
    return other


def _with(text, part):
    return text if part in text else ""


def values(flow, *options):
    code, text = report(flow, "--json", *options)
    assert code == 0, text
    return json.loads(text)


def counts(flow):
    return values(flow)["progress"]["pipeline"]


# What the JSON says


def test_a_finished_run_of_the_service_is_reported_in_full(finished):
    found = values(finished)

    assert list(found) == ["status", "progress", "metrics", "errors"]
    assert found["status"] == {"running": False, "pid": None}
    assert found["progress"] == {
        "pipeline": {
            "finished": 1,
            "in_progress": 0,
            "staged": 0,
            "errored": 2,
            "total": 3,
        },
        "tasks": [
            {"name": "head", "processed": 2, "staged": 0, "failed": 1},
            {"name": "left", "processed": 1, "staged": 0, "failed": 1},
            {"name": "right", "processed": 2, "staged": 0, "failed": 0},
        ],
    }
    assert list(found["metrics"]) == ["head", "left", "right"]
    assert {task: m["count"] for task, m in found["metrics"].items()} == {
        "head": 2,
        "left": 1,
        "right": 2,
    }


def test_metrics_have_the_keys_and_types_that_tools_read(finished):
    metrics = values(finished)["metrics"]["head"]

    assert list(metrics) == [
        "count",
        "avg_ms",
        "min_ms",
        "max_ms",
        "durations",
        "files",
    ]
    assert len(metrics["durations"]) == metrics["count"] == 2
    assert 0 < metrics["min_ms"] <= metrics["avg_ms"] <= metrics["max_ms"]
    files = {each["file"]: each for each in metrics["files"]}
    assert {name: each["status"] for name, each in files.items()} == {
        "a.txt": "success",
        "bad.txt": "error",
        "left.txt": "success",
    }
    one = files["a.txt"]
    took = datetime.fromisoformat(one["finished_at"]) - datetime.fromisoformat(
        one["started_at"]
    )
    assert took.total_seconds() * 1000 == pytest.approx(one["duration_ms"], abs=0.01)
    assert one["started_at"].endswith("+00:00")


def test_errors_are_what_the_err_files_say(finished):
    errors = values(finished)["errors"]

    assert list(errors) == ["head", "left"]
    (error,) = errors["head"]
    assert list(error) == [
        "file",
        "path",
        "timestamp",
        "exception_type",
        "message",
        "traceback",
    ]
    assert (error["file"], error["exception_type"]) == ("bad.txt", "ValueError")
    assert error["message"] == "this one is bad"
    assert error["path"] == str(finished.out / "head" / "bad.err")
    assert "raise ValueError" in error["traceback"]
    assert datetime.fromisoformat(error["timestamp"]).tzinfo is not None


def test_an_err_file_that_is_not_ours_is_shown_as_it_is(flow):
    flow.write(HEAD)
    flow.once()
    (flow.out / "head" / "bad.err").write_text("Segmentation fault\n")

    (error,) = values(flow)["errors"]["head"]

    assert (error["file"], error["message"]) == ("bad.txt", "Segmentation fault\n")
    assert (error["timestamp"], error["exception_type"]) == (None, "")


def test_include_chooses_sections(finished):
    both = values(finished, "--include", "errors, Status")

    assert list(both) == ["status", "errors"]
    assert list(values(finished, "-i", "progress")) == ["progress"]
    assert report(finished, "-i", "status") == (
        0,
        f"Status:   ○ stopped\nOutput:   {finished.out}\n",
    )


def test_an_output_directory_may_be_given_through_a_link(finished, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(finished.out)
    through = moved(finished, link, tmp_path)

    (error,) = values(through)["errors"]["head"]

    assert error["path"] == str(link / "head" / "bad.err")


# At any time


@pytest.mark.snakemake
def test_a_run_of_plain_snakemake_is_counted_by_its_files(flow):
    flow.compile(HEAD, LEFT, RIGHT)
    before = counts(flow)
    flow.snakemake()

    found = values(flow)

    assert before == {
        "finished": 0,
        "in_progress": 0,
        "staged": 3,
        "errored": 0,
        "total": 3,
    }
    assert found["status"] == {"running": False, "pid": None}
    assert found["progress"]["pipeline"] == {
        "finished": 1,
        "in_progress": 0,
        "staged": 0,
        "errored": 2,
        "total": 3,
    }
    assert found["metrics"] == {}
    assert [error["file"] for error in found["errors"]["head"]] == ["bad.txt"]


@pytest.mark.snakemake
def test_intermediate_outputs_that_are_not_kept_are_counted(flow):
    flow.compile(HEAD | {"keep_output": False}, LEFT, RIGHT | {"keep_output": False})
    flow.snakemake()

    found = values(flow)["progress"]

    assert flow.names("head") == ["bad.err"]
    assert found["pipeline"]["finished"] == 1
    assert [task["processed"] for task in found["tasks"]] == [2, 1, 2]


@pytest.mark.snakemake
def test_a_workflow_that_is_compiled_elsewhere_has_a_report(flow):
    flow.compile(HEAD)
    workflow = flow.out / ".tigerflow" / "workflow"
    words = [flow.pipeline, flow.inputs, flow.root / "other", "--to", flow.root / "w"]
    assert flow.call(*TIGERFLOW, "compile", *words).returncode == 0
    assert workflow.is_dir()
    flow.out = flow.root / "other"

    assert counts(flow)["total"] == 3


def test_a_running_service_is_reported_while_it_works(flow):
    flow.add_module(SLOW)
    flow.write({"name": "slow", "module": "tasks.py:Slow"})
    service = flow.watch()
    wait_until(lambda: flow.noted("slow"), "the first file is begun")

    found = values(flow)
    code, text = report(flow)
    (flow.root / "go").touch()
    wait_until(lambda: counts(flow)["finished"] == 3, "all are done")
    flow.stop(service)

    assert found["status"] == {"running": True, "pid": service.pid}
    assert found["progress"]["pipeline"] == {
        "finished": 0,
        "in_progress": 3,
        "staged": 0,
        "errored": 0,
        "total": 3,
    }
    assert found["metrics"] == {}
    assert (code, f"running (pid {service.pid})" in text) == (0, True)
    assert values(flow)["status"] == {"running": False, "pid": None}


def test_running_and_queued_files_are_counted_apart_and_neither_after_a_stop(flow):
    flow.add_module(SLOW)
    flow.write({"name": "slow", "module": "tasks.py:Slow", "workers": 2})
    service = flow.watch()
    wait_until(lambda: len(flow.noted("slow")) == 2, "two files are begun")
    text = wait_until(lambda: _with(report(flow)[1], "2 running"), "that is seen")
    found = values(flow)
    story = report(flow, flow.noted("slow")[0].removeprefix("slow "))[1]
    service.kill()
    service.wait(DEADLINE_S)
    killed = report(flow)[1]
    (flow.root / "go").touch()
    flow.once()

    assert "Progress: 0 of 3 done, 2 running, 1 queued\n" in text
    assert len(found["running"]["slow"]) == 2
    assert found["progress"]["pipeline"]["in_progress"] == 3
    assert ": running\n" in story
    assert "slow: running on worker " in story
    assert "Progress: 0 of 3 done, 3 waiting\n" in killed
    assert "running" not in values(flow)


def test_files_with_some_results_are_partly_done_when_nothing_runs(flow):
    flow.compile(HEAD, LEFT | {"module": "tasks.py:Left"})
    flow.write(HEAD)
    flow.once()
    flow.compile(HEAD, LEFT)

    text = report(flow)[1]

    assert "Progress: 0 of 3 done, 1 failed, 2 partly done\n" in text
    assert "in progress" not in text


def test_task_that_cannot_run_is_reported_in_every_format(flow):
    flow.write(HEAD | {"setup_commands": ["false"]}, LEFT)
    service = flow.watch()
    flow.until_said("[head] stopped: ")

    found = values(flow)
    code, text = report(flow)
    report(flow, "--html", "report.html")
    flow.stop(service)
    after = values(flow, "-i", "progress")

    (event,) = flow.events(TaskStopped)
    reason = event.reason
    assert reason.startswith("task 'head' cannot run: its setup command failed: false")
    assert event.task == "head"
    tasks = found["progress"]["tasks"]
    assert [task.get("stopped") for task in tasks] == [reason, None]
    assert after["progress"]["tasks"] == tasks
    assert found["progress"]["pipeline"]["staged"] == 3
    assert (code, f"  0 of 3\n    stopped: {reason}\n  left " in text) == (0, True)
    assert "<b>cannot run</b>" in (flow.root / "report.html").read_text()
    flow.write(HEAD, LEFT)
    flow.once()
    assert "cannot run" not in report(flow)[1]


def test_a_killed_service_is_not_running(flow):
    flow.write(HEAD)
    service = flow.watch()
    flow.until("head/bad.err", "head/a.out", "head/left.out")
    service.kill()
    service.wait(DEADLINE_S)

    found = values(flow)
    flow.once()  # It clears up after the other.

    assert found["status"] == {"running": False, "pid": None}
    assert found["progress"]["pipeline"]["finished"] == 2


def test_a_torn_journal_takes_nothing_from_the_counts(flow):
    flow.write(HEAD)
    flow.once()
    before = counts(flow)
    path = flow.out / ".tigerflow" / "journal.jsonl"
    text = path.read_bytes()
    for cut in (len(text) - 7, len(text) // 2, 10, 0):
        path.write_bytes(text[:cut])
        assert counts(flow) == before
    path.unlink()
    assert counts(flow) == before


def test_inputs_that_are_gone_do_not_make_done_files_undone(flow):
    flow.write(HEAD)
    flow.once()
    flow.inputs.rename(flow.root / "unmounted")

    assert counts(flow)["finished"] == 2
    assert counts(flow)["errored"] == 1


# What is no run, and mistakes


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nowhere", "does not exist"),
        ("pipeline.yaml", "is not a directory"),
        ("in", "is not the output directory of a pipeline"),
    ],
)
def test_directory_without_a_run_is_an_error(finished, name, found):
    other = moved(finished, finished.root / name, finished.root)
    sentence = f"{str(other.out)!r} {found}"

    code, text = report(other, "--json")

    assert (code, json.loads(text)) == (1, {"error": sentence})
    assert report(other) == (1, f"Error: {sentence}\n")
    assert report(other, "--watch") == (1, f"Error: {sentence}\n")
    assert command("stop", other) == (1, f"Error: {sentence}\n")
    assert command("retry", other) == (1, f"Error: {sentence}\n")


def test_without_its_plan_a_run_is_shown_by_its_journal(flow):
    flow.write(HEAD, LEFT)
    flow.once()
    before = values(flow)["progress"]
    plan = flow.out / ".tigerflow" / "pipeline.json"
    plan.write_text("{")
    sentence = f"The plan {str(plan)!r} cannot be read: it is damaged, or "

    found = values(flow)
    code, text = report(flow)

    assert found["progress"] == before
    assert found["notes"][0].startswith(sentence)
    assert code == 0
    assert f"\nNote:     {sentence}" in text
    code, text = command("retry", flow)
    assert (code, text[: len(sentence) + 7]) == (1, f"Error: {sentence}")
    (flow.out / ".tigerflow" / "journal.jsonl").unlink()
    code, text = report(flow, "--json")
    assert (code, json.loads(text)["error"][: len(sentence)]) == (1, sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--watch", "--json"], "--watch cannot be used with --json"),
        (["--html", "r", "--json"], "--html cannot be combined with others"),
        (["--html", "r", "-i", "errors"], "others: it shows everything"),
        (["-j", "-i", "eror"], "no section 'eror'; did you mean 'errors'?"),
        (["-j", "-i", "xyz"], "choose from status, progress, metrics, errors"),
    ],
)
def test_mistakes_in_the_options_are_usage_errors(finished, options, sentence):
    code, text = report(finished, *options)

    assert code == 2
    assert sentence in " ".join(text.replace("│", " ").split())


def test_missing_parts_of_a_journal_are_reported_and_the_rest_is_shown(flow):
    flow.write(HEAD)
    flow.once()
    journal = flow.out / ".tigerflow" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[3:])
    note = "The journal has 1 line that cannot be read; left out here."

    code, text = report(flow)

    assert code == 0
    assert f"\nNote:     {note}\n" in text
    assert "2 of 3 done, 1 failed" in text
    found = values(flow, "-i", "progress")
    assert list(found) == ["progress", "notes"]
    assert found["notes"] == [note]


# The page


def test_a_page_is_written_of_what_the_service_did(flow):
    flow.write(HEAD, LEFT, RIGHT)
    flow.once()

    code, text = report(flow, "--html", "report.html")

    assert (code, text) == (0, "Wrote report.html\n")
    page = (flow.root / "report.html").read_text()
    for said in ("ValueError", "this one is bad", "not to the left"):
        assert said in page
    assert "Workers over time" in page
    changes = flow.events(WorkerChanged)
    assert {change.task for change in changes} == {"head", "left", "right"}
    for task in ("head", "left", "right"):
        of_it = [change for change in changes if change.task == task]
        assert [c.state for c in of_it] == ["launched", "ready", "ended"]
        assert of_it[-1].note == "ended with exit code 0"
    tries = flow.events(TaskTried)
    assert {each.worker for each in tries} == {1}
    (start,) = flow.events(RunStarted)
    assert start.kinds == {"head": "local", "left": "local", "right": "local_async"}
    assert start.params == {"head": {}, "left": {}, "right": {}}
    assert start.python.startswith("3.")
    assert start.snakemake.startswith("9.")


def test_a_page_is_written_of_a_service_at_work(flow):
    flow.add_module(SLOW)
    flow.write({"name": "slow", "module": "tasks.py:Slow"})
    service = flow.watch()
    wait_until(lambda: flow.noted("slow"), "the first file is begun")

    code, _ = report(flow, "--html", "report.html")
    (flow.root / "go").touch()
    wait_until(lambda: counts(flow)["finished"] == 3, "all are done")
    flow.stop(service)

    assert code == 0
    page = (flow.root / "report.html").read_text()
    assert f"Running (pid {service.pid} on " in page
    assert "cannot be read" not in page


@pytest.mark.snakemake
def test_a_page_of_plain_snakemake_has_counts_and_failures(flow):
    flow.compile(HEAD, LEFT, RIGHT)
    flow.snakemake()

    assert report(flow, "--html", "report.html")[0] == 0

    page = (flow.root / "report.html").read_text()
    assert "this one is bad" in page
    assert "not by plain Snakemake" in page


def test_a_page_of_no_run_or_to_no_place_is_not_written(finished, tmp_path):
    none = moved(finished, tmp_path, tmp_path)

    assert report(none, "--html", "report.html") == (
        1,
        f"Error: {str(tmp_path)!r} is not the output directory of a pipeline\n",
    )
    assert [*tmp_path.iterdir()] == []
    assert report(finished, "--html", str(tmp_path)) == (
        1,
        (
            f"Error: The report cannot be written to {str(tmp_path)!r}: "
            "it is a directory; name a file in it\n"
        ),
    )


# The screen


@pytest.mark.snakemake
def test_the_text_without_a_terminal_is_plain(flow):
    flow.compile(HEAD, LEFT, RIGHT)
    flow.snakemake()

    code, text = report(flow)

    assert code == 0
    part, rest = "━" * 13, "─"
    assert text == (
        "Status:   ○ stopped\n"
        f"Output:   {flow.out}\n"
        "\n"
        "Progress: 1 of 3 done, 2 failed\n"
        f"  files  {part}{'x' * 27}  1 of 3, 2 failed\n"
        f"  head   {part * 2}{'x' * 14}  2 of 3, 1 failed\n"
        f"  left   {'━' * 12}{'x' * 14}{rest * 14}  1 of 3, 1 failed\n"
        f"  right  {part * 2}{rest * 14}  2 of 3\n"
        "\n"
        "Errors:   2 in 2 files\n"
        "  head/bad.err\n"
        "    ValueError: this one is bad\n"
        "  left/left.err\n"
        "    ValueError: not to the left\n"
        f"  In full: tigerflow report {shlex.quote(str(flow.out))} head/bad.err\n"
    )


def test_the_text_has_metrics_and_the_first_five_errors(flow):
    flow.write(HEAD)
    for stem in "bcdefg":
        (flow.inputs / f"{stem}.txt").write_text("bad")
    flow.once()
    # Each of another kind.
    for number, path in enumerate(sorted(flow.out.glob("head/*.err"))):
        kind = f"{'abcdefg'[number]}Error"
        error = json.loads(path.read_text()) | {"exception_type": kind}
        path.write_text(json.dumps(error))

    text = report(flow)[1]

    assert "Metrics:  time per file\n  head   " in text
    assert " avg)\n" in text
    assert "Errors:   7 in 7 files\n" in text
    # One more is in the command that shows an error in full.
    assert text.count(".err\n") == 6
    assert "  and 2 more: tigerflow report --json\n  In full: tigerflow " in text


def test_failures_that_are_alike_are_shown_once(flow):
    flow.add_module(TREE.replace('"this one is bad"', 'f"{input_file}:7: is wrong"'))
    flow.write(HEAD)
    for stem in "bcdefg":
        (flow.inputs / f"{stem}.txt").write_text("bad")
    flow.once()

    text = report(flow)[1]

    assert "Errors:   7 in 7 files\n  head/b.err and 6 more\n    ValueError: " in text
    assert text.count(".err\n") == 1  # in the command that shows it in full
    assert " more: tigerflow report --json" not in text


def test_a_long_reason_is_cut_on_a_terminal_only(flow):
    flow.add_module(TREE.replace("this one is bad", "why " * 50))
    flow.write(HEAD)
    flow.once()

    assert f"    ValueError: {'why ' * 49}why\n" in report(flow)[1]
    code, screen = _on_a_terminal(flow)
    assert code == 0
    lines = screen.replace("\r", "").split("\n")
    assert max(len(_plain(line)) for line in lines if "/" not in line) <= 80


def test_a_console_without_such_characters_gets_others(flow):
    flow.add_inputs("é")
    flow.write(HEAD)
    flow.environment |= {"PYTHONIOENCODING": "ascii"}
    (flow.inputs / "é.txt").write_text("bad")
    flow.once()

    code, text = report(flow)

    assert code == 0
    assert text.isascii()
    assert "head/\\xe9.err" in text


def test_watch_refreshes_until_ctrl_c(flow):
    flow.write(HEAD)
    flow.compile(HEAD)
    with _terminal(flow, "--watch") as (process, read):
        first = read("0 of 3 done")
        flow.once()
        second = read("2 of 3 done, 1 failed")
        process.send_signal(signal.SIGINT)
        code = process.wait(DEADLINE_S)
        rest = read("\x1b[?25h")

    assert code == 0
    assert "Traceback" not in first + second + rest


def test_a_journal_of_20000_files_is_read_whole(flow):
    flow.compile(HEAD)
    results = flow.out / "head"
    results.mkdir(exist_ok=True)
    at = "2026-11-22T05:00:00.000+00:00"
    with (flow.out / ".tigerflow" / "journal.jsonl").open("w") as journal:
        for number in range(20_000):
            stem = f"{number:05}"
            (flow.inputs / f"{stem}.txt").touch()
            (results / f"{stem}.out").touch()
            task = {"task": "head", "file": stem, "started": at, "seconds": 0.1}
            for event in (
                {"event": "task_done", "at": at} | task,
                {"event": "file_done", "at": at, "file": f"{stem}.txt"},
            ):
                journal.write(json.dumps(event) + "\n")

    code, text = report(flow)

    assert (code, "20000 of 20003 done" in text) == (0, True)
    assert values(flow)["metrics"]["head"]["count"] == 20_000


@contextlib.contextmanager
def _terminal(flow, *options):
    """Run the command on a terminal of 80 columns; give it, and a way to read on."""
    controller, terminal = pty.openpty()
    words = [*TIGERFLOW, "report", str(flow.out), *options]
    environment = flow.environment | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen(
        words, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)

    def read(text):
        found = ""
        end = time.monotonic() + DEADLINE_S
        while text not in found and text not in _plain(found):
            assert time.monotonic() < end, found
            if select.select([controller], [], [], 0.1)[0]:
                found += os.read(controller, 65536).decode(errors="replace")
        return found

    try:
        yield process, read
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def _on_a_terminal(flow):
    with _terminal(flow) as (process, read):
        text = read("left.err" if (flow.out / "left/left.err").exists() else "why")
        return process.wait(DEADLINE_S), text


def _plain(line):
    """Return a line without its colours."""
    parts = line.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


# What others have planted


def plant_fifo(path):
    os.mkfifo(path)


def plant_device(path):
    path.symlink_to("/dev/zero")


def plant_loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("head/zz.err", plant_fifo),
        ("head/zz.err", plant_loop),
        ("head/zz.out", plant_fifo),
        (".tigerflow/journal.jsonl", plant_fifo),
        (".tigerflow/journal.jsonl", plant_device),
        (".tigerflow/pipeline.json", plant_fifo),
        (".tigerflow/run.pid", plant_fifo),
        (".tigerflow/run.lock", plant_fifo),
    ],
)
def test_special_files_do_not_block_a_report(flow, name, plant):
    flow.compile(HEAD)
    path = flow.out / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    plant(path)
    for word in ("report", "retry", "stop"):
        code, said = command(word, flow)
        assert code in {0, 1}
        assert "Traceback" not in said


def test_error_file_of_any_size_is_shown_in_part(flow):
    flow.write(HEAD)
    flow.compile(HEAD)
    errors = flow.out / "head"
    errors.mkdir(exist_ok=True)
    long = {"exception_type": "ValueError", "message": "x" * 5_000_000}
    (errors / "a.err").write_text(json.dumps(long))
    with (errors / "bad.err").open("wb") as file:
        file.truncate(10 << 30)
    (errors / "left.err").write_text("[" * 100_000)
    code, said = report(flow)
    assert (code, len(said) < 100_000) == (0, True)
    code, said = report(flow, "--json")
    assert (code, len(said) < 200_000) == (0, True)
    kinds = [each["exception_type"] for each in json.loads(said)["errors"]["head"]]
    assert kinds == ["ValueError", "", ""]


def test_forged_lines_of_a_journal_hold_up_neither_report_nor_service(flow):
    flow.write(HEAD)
    assert flow.once() == 1
    forged = [
        '{"event": "staged", "files": ' + "[" * 10**5 + "]" * 10**5 + "}",
        '{"event": "file_done", "file": "a.txt", "size": ' + "9" * 5000 + "}",
        '{"event": "staged", "files": [["a"]], "signatures": [3]}',
        '{"event": "run_started", "versions": 3, "tasks": []}',
        '{"event": "task_done", "task": "head", "file": "a", "seconds": Infinity}',
    ]
    with (flow.out / ".tigerflow" / "journal.jsonl").open("a") as file:
        file.write("\n".join(forged) + "\n")
    page = flow.root / "page.html"
    for options in ((), ("--json",), ("--html", page)):
        code, said = report(flow, *map(str, options))
        assert code == 0, said
    assert "The journal has 5 lines that cannot be read" in report(flow)[1]
    assert command("retry", flow)[0] == 0
    assert flow.once() == 1
    assert "Traceback" not in flow.said
