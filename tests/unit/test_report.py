"""A journal and the names of files -> a report."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tigerflow import __version__
from tigerflow.errors import NoRunError, PlanError
from tigerflow.files import write_json
from tigerflow.report.as_json import as_json
from tigerflow.report.journaled import Journaled, digest
from tigerflow.report.reading import build_report, list_files, read_report
from tigerflow.report.run_report import Timing
from tigerflow.rundir.events import event_of
from tigerflow.rundir.journal import read
from tigerflow.rundir.judgement import (
    FileState,
    Listed,
    OnDisk,
    Status,
    TaskState,
    judge,
)
from tigerflow.rundir.lock import Holder
from tigerflow.rundir.plan import Plan, PlannedTask, read_plan

TREE = Plan(
    ".txt",
    (
        PlannedTask("head", None, ".out", keep_output=False),
        PlannedTask("left", "head", ".md", keep_output=True),
        PlannedTask("right", "head", ".csv", keep_output=False),
    ),
)
CHAIN = Plan(
    ".txt",
    (
        PlannedTask("head", None, ".out", keep_output=True),
        PlannedTask("middle", "head", ".mid", keep_output=False),
        PlannedTask("end", "middle", ".md", keep_output=True),
    ),
)
TWO_ROOTS = Plan(
    ".txt",
    (
        PlannedTask("one", None, ".out", keep_output=True),
        PlannedTask("two", None, ".out", keep_output=True),
    ),
)
AT = "2026-11-22T05:00:00.000+00:00"
LATER = "2026-11-22T05:00:01.500000+00:00"
PROCESSED, STAGED, FAILED, WAITING, BLOCKED = TaskState


def event(kind, **fields):
    return {"event": kind, "at": AT, **fields}


def typed(events):
    """Return those of a journal's events that have their form."""
    found = map(event_of, events)
    return [event for event in found if event is not None]


def timed(kind, task, stem, seconds=1.5):
    return event(kind, task=task, file=stem, started=AT, seconds=seconds)


def listed(plan, inputs="", **files):
    """Return a listing: `inputs="a b"`, `head="a"`, `head_err="b"`; all of one age."""
    return Listed(
        inputs=dict.fromkeys(inputs.split(), 1),
        outputs={
            task.name: dict.fromkeys(files.get(task.name, "").split(), 2)
            for task in plan.tasks
        },
        errors={
            task.name: dict.fromkeys(files.get(f"{task.name}_err", "").split(), 2)
            for task in plan.tasks
        },
    )


def report(plan, listing, *events, running=False):
    holder = Holder(7, "here") if running else None
    return build_report(Path("/out"), plan, listing, digest(typed(events)), holder)


def progress(plan, listing, *events, running=False):
    return as_json(report(plan, listing, *events, running=running))["progress"]


# How far each file is


@pytest.mark.parametrize(
    ("listing", "head", "left", "right"),
    [
        ({}, STAGED, WAITING, WAITING),
        ({"head": "a"}, PROCESSED, STAGED, STAGED),
        ({"head": "a", "left_err": "a"}, PROCESSED, FAILED, STAGED),
        ({"head_err": "a"}, FAILED, BLOCKED, BLOCKED),
        # The intermediate output is gone, as it should be.
        ({"left": "a", "right": "a"}, PROCESSED, PROCESSED, PROCESSED),
        ({"left": "a", "right_err": "a"}, PROCESSED, PROCESSED, FAILED),
        ({"left": "a"}, PROCESSED, PROCESSED, STAGED),
        # A stale error beside an output.
        ({"head": "a", "head_err": "a"}, PROCESSED, STAGED, STAGED),
    ],
)
def test_each_task_is_as_far_as_its_files_say(listing, head, left, right):
    found = judge(TREE, listed(TREE, "a", **listing), "a", 1)

    assert found.states == {"head": head, "left": left, "right": right}


@pytest.mark.parametrize("plan", [TREE, CHAIN, TWO_ROOTS])
def test_a_report_judges_each_file_as_the_service_does(plan, tmp_path):
    names = [task.name for task in plan.tasks]
    for directory in plan.directories:
        (tmp_path / directory).mkdir(parents=True)
    for times in itertools.product((None, 1, 3), repeat=2 * len(names)):
        paths = plan.files_of("a")
        for path, time_ns in zip(paths, times, strict=True):
            if time_ns is None:
                (tmp_path / path).unlink(missing_ok=True)
            else:
                (tmp_path / path).touch()
                os.utime(tmp_path / path, ns=(time_ns, time_ns))

        expected = judge(plan, OnDisk(tmp_path), "a", 2)
        listing = replace(list_files(tmp_path, plan), inputs={"a": 2})
        found = judge(plan, listing, "a", 2)

        as_status = {
            FileState.FINISHED: Status.DONE,
            FileState.ERRORED: Status.FAILED,
        }
        state = found.file_state(in_hand=False)
        assert as_status.get(state, Status.UNDONE) is expected.status
        failed = [name for name in names if found.states[name] is FAILED]
        assert tuple(failed) == expected.failed
        undone = [n for n in plan.targets if found.states[n] in {STAGED, WAITING}]
        assert sorted(undone) == sorted(expected.undone)


def test_an_output_older_than_its_input_does_not_count():
    listing = Listed({"a": 3}, {"one": {"a": 2}, "two": {}}, {"one": {}, "two": {}})

    found = judge(TWO_ROOTS, listing, "a", 3)

    assert found.states == {"one": STAGED, "two": STAGED}


# Counts


def test_every_file_is_counted_in_one_state():
    listing = listed(
        TREE, "a b c d e f", head="b c", left="d e", right="d", right_err="e c"
    )

    assert progress(TREE, listing)["pipeline"] == {
        "finished": 1,  # d
        "in_progress": 2,  # b; c: one branch failed, the other goes on
        "staged": 2,  # a, f
        "errored": 1,  # e
        "total": 6,
    }


def test_a_file_that_fails_in_two_branches_counts_once():
    listing = listed(TREE, "a b", left_err="a", right_err="a")

    found = as_json(report(TREE, listing))

    assert found["progress"]["pipeline"]["errored"] == 1
    assert found["progress"]["pipeline"]["total"] == 2
    assert {task: len(errors) for task, errors in found["errors"].items()} == {
        "left": 1,
        "right": 1,
    }


def test_tasks_are_counted_in_order_of_the_plan():
    listing = listed(TREE, "a b c", head="b", left="c", right_err="c", left_err="b")

    assert progress(TREE, listing)["tasks"] == [
        {"name": "head", "processed": 2, "staged": 1, "failed": 0},
        {"name": "left", "processed": 1, "staged": 0, "failed": 1},
        {"name": "right", "processed": 0, "staged": 1, "failed": 1},
    ]


def test_done_files_count_when_their_inputs_are_deleted():
    listing = listed(TREE, "", left="a b", right="a", head="c", left_err="d")

    counts = progress(TREE, listing)["pipeline"]

    # What is half done and has no input will never be done.
    assert counts == {
        "finished": 1,
        "in_progress": 0,
        "staged": 0,
        "errored": 0,
        "total": 1,
    }


def test_files_of_a_running_service_are_in_progress():
    listing = listed(TREE, "a b c", left="c", right="c")
    events = [
        event("run_started", tasks={}),
        event("staged", files=["a.txt", "c.txt"]),
        event("file_done", file="c.txt"),
    ]

    running = progress(TREE, listing, *events, running=True)["pipeline"]
    stopped = progress(TREE, listing, *events)["pipeline"]

    assert (running["in_progress"], running["staged"]) == (1, 1)
    assert (stopped["in_progress"], stopped["staged"]) == (0, 2)


@pytest.mark.parametrize("kind", ["file_done", "file_failed", "file_forgotten"])
def test_settled_file_is_no_longer_in_progress(kind):
    events = [event("staged", files=["a", "b"]), event(kind, file="a")]

    assert digest(typed(events)).in_hand == {"b"}


def test_new_run_starts_with_no_files_in_progress():
    events = [event("staged", files=["a"]), event("run_started")]

    assert digest(typed(events)).in_hand == set()


# A task that cannot run


def stopped(task, reason="no licence"):
    return event("task_stopped", task=task, reason=reason)


def test_a_task_that_cannot_run_has_the_reason_until_the_next_run():
    events = [event("run_started"), stopped("left")]

    found = progress(TREE, listed(TREE, "a"), *events)["tasks"]
    later = progress(TREE, listed(TREE, "a"), *events, event("run_started"))["tasks"]

    left = {"name": "left", "processed": 0, "staged": 0, "failed": 0}
    assert found[1] == left | {"stopped": "no licence"}
    assert later[1] == left
    assert "stopped" not in found[0]


def test_a_file_that_a_stopped_task_holds_up_is_not_in_progress():
    events = [event("run_started"), event("staged", files=["a.txt"])]

    def files(*more, **results):
        listing = listed(TREE, "a", **results)
        found = progress(TREE, listing, *events, *more, running=True)["pipeline"]
        return found["staged"], found["in_progress"]

    assert files() == (0, 1)
    assert files(stopped("head")) == (1, 0)
    # Another branch goes on, or what is before.
    assert files(stopped("left")) == (0, 1)
    # Some of its results are there.
    assert files(stopped("left"), right="a") == (0, 1)


def test_a_name_that_snakemake_cannot_carry_is_an_error():
    found = as_json(report(TREE, Listed({"{x}": 1}, *_nothing(TREE))))

    assert found["progress"]["pipeline"]["errored"] == 1
    assert found["progress"]["tasks"][0]["failed"] == 1
    assert found["errors"] == {
        "head": [
            {
                "file": "{x}.txt",
                "path": "/out/.tigerflow/input/{x}.txt",
                "timestamp": None,
                "exception_type": "UnusableName",
                "message": "Snakemake reads the {...} in its name as a wildcard; "
                "rename it",
                "traceback": "",
            },
        ],
    }


def _nothing(plan):
    return [{task.name: {} for task in plan.tasks} for _ in range(2)]


# Metrics


def test_metrics_are_of_the_successes_and_list_every_file():
    events = [
        timed("task_done", "head", "a", 1.5),
        timed("task_failed", "head", "b", 9),
        timed("task_done", "head", "c", 0.5),
    ]

    found = as_json(report(TREE, listed(TREE, "a b c"), *events))["metrics"]

    assert list(found) == ["head"]
    files = found["head"].pop("files")
    assert found["head"] == {
        "count": 2,
        "avg_ms": 1000.0,
        "min_ms": 500.0,
        "max_ms": 1500.0,
        "durations": [1500.0, 500.0],
    }
    assert files[0] == {
        "file": "a.txt",
        "started_at": AT,
        "finished_at": LATER,
        "duration_ms": 1500.0,
        "status": "success",
    }
    assert [each["status"] for each in files] == ["success", "error", "success"]


def test_metrics_name_the_file_that_the_task_got():
    events = [timed("task_done", "left", "a")]

    found = as_json(report(TREE, listed(TREE, "a"), *events))["metrics"]

    assert [each["file"] for each in found["left"]["files"]] == ["a.out"]


def test_metrics_without_a_success_have_zeros():
    events = [timed("task_failed", "head", "a")]

    found = as_json(report(TREE, listed(TREE, "a"), *events))["metrics"]["head"]

    assert found["durations"] == []
    assert [found[key] for key in ("count", "avg_ms", "min_ms", "max_ms")] == [0] * 4


def test_last_try_of_a_retried_file_counts():
    events = [
        timed("task_failed", "head", "a", 1),
        timed("task_done", "head", "b", 2),
        timed("task_done", "head", "a", 3),
    ]

    assert digest(typed(events)).timings == {
        "head": {"b": Timing(AT, 2, succeeded=True), "a": Timing(AT, 3, succeeded=True)}
    }
    assert list(digest(typed(events)).timings["head"]) == ["b", "a"]


def test_a_try_without_a_start_has_the_time_of_its_record():
    events = [event("task_failed", task="head", file="a", started="", seconds=0.0)]

    assert digest(typed(events)).timings["head"]["a"] == Timing(
        AT, 0.0, succeeded=False
    )


def test_events_of_other_forms_are_left_out():
    events = [
        {"event": "task_done"},
        {"event": "staged", "files": 7},
        {"event": "file_done", "file": ["a"]},
        {"event": "from the future", "at": AT},
        {"event": None},
        {"event": ["staged"]},
    ]

    assert digest(typed(events)) == Journaled(unknown=3)


def test_a_torn_journal_loses_its_torn_lines_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = json.dumps(timed("task_done", "head", "a")).encode()
    path.write_bytes(whole + b"\n" + whole[:30] + b"\n\x00\xff\n[]\n" + whole[:50])

    assert digest(read(path)).timings == {
        "head": {"a": Timing(AT, 1.5, succeeded=True)}
    }


# What is wrong with a journal


@pytest.fixture
def out(tmp_path):
    """A run directory without files."""
    (tmp_path / ".tigerflow").mkdir()
    (tmp_path / ".tigerflow" / "pipeline.json").write_text(TREE.text)
    return tmp_path


def notes(out, text, *, running=False):
    (out / ".tigerflow" / "journal.jsonl").write_text(text)
    if running:
        write_json(out / ".tigerflow" / "run.pid", {"pid": 7, "host": "elsewhere"})
    return read_report(out).notes


def lines(*events):
    return "".join(json.dumps(each) + "\n" for each in events)


WHOLE = lines(event("run_started", version=__version__), event("staged", files=["a"]))


def test_there_is_nothing_to_note_on_a_whole_journal(out):
    assert read_report(out).notes == ()
    assert notes(out, WHOLE) == ()
    assert "notes" not in as_json(read_report(out))


def test_lines_that_cannot_be_read_are_counted(out):
    torn = WHOLE + '{"event": "fi\n[]\n\n' + WHOLE + '{"event"'

    assert notes(out, torn) == (
        "The journal has 3 lines that cannot be read; left out here.",
    )
    assert notes(out, WHOLE[:-5]) == (
        "The journal has 1 line that cannot be read; left out here.",
    )
    assert as_json(read_report(out), ["status"])["notes"] == [*notes(out, WHOLE[:-5])]


def test_a_line_that_is_being_written_is_not_torn(out):
    assert notes(out, WHOLE[:-5], running=True) == ()
    assert notes(out, "{\n" + WHOLE[:-5], running=True) == (
        "The journal has 1 line that cannot be read; left out here.",
    )


def test_a_newer_version_is_named(out):
    newer = lines(event("run_started", version="12.0"), event("warped"))

    assert notes(out, newer) == (
        (
            f"TigerFlow 12.0 made this run, and this is {__version__}: what only the "
            "newer version knows is not shown."
        ),
    )
    assert notes(out, lines(event("run_started", version="0.3.1"))) == ()
    assert notes(out, lines(event("run_started", version=["x"]))) == ()


def test_unknown_event_kinds_are_counted(out):
    assert notes(out, WHOLE + lines(event("warped"), event("warped"))) == (
        (
            f"The journal has 2 entries that this TigerFlow ({__version__}) does not "
            "know; left out here. A newer version probably wrote them: update this one."
        ),
    )


def test_a_journal_that_cannot_be_read_takes_away_only_the_times(out):
    (out / ".tigerflow" / "journal.jsonl").mkdir()

    found = read_report(out)

    assert found.notes == (
        "The journal cannot be read (Is a directory), so no times are shown.",
    )
    assert [task.name for task in found.tasks] == ["head", "left", "right"]


def test_a_try_without_a_time_that_can_be_read_ends_when_it_began():
    for seconds, started in ((1.0, "yesterday"), (1e18, AT), (1.0, "7")):
        made = timed("task_done", "head", "a", seconds) | {"started": started}
        found = as_json(report(TREE, listed(TREE, "a"), made))["metrics"]["head"]
        assert found["files"][0]["finished_at"] == started


def test_a_plan_of_a_newer_version_is_read_for_what_is_known(out):
    plan = json.loads(TREE.text)
    plan["colour"] = "blue"
    plan["tasks"][0]["colour"] = "red"
    (out / ".tigerflow" / "pipeline.json").write_text(json.dumps(plan))

    assert read_plan(out) == TREE


# Sections, and what is no run


def test_sections_come_in_their_order_and_only_those_asked_for():
    found = report(TREE, listed(TREE, "a"), running=True)

    assert list(as_json(found)) == ["status", "progress", "metrics", "errors"]
    assert as_json(found, ["errors", "status"]) == {
        "status": {"running": True, "pid": 7},
        "errors": {},
    }


def test_a_stopped_run_has_no_pid():
    found = as_json(report(TREE, listed(TREE)), ["status"])

    assert found == {"status": {"running": False, "pid": None}}


def test_a_plan_is_read_as_it_was_written(tmp_path):
    (tmp_path / ".tigerflow").mkdir()
    (tmp_path / ".tigerflow" / "pipeline.json").write_text(TREE.text)

    assert read_plan(tmp_path) == TREE


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("there", "is not the output directory of a pipeline"),
        ("file", "is not a directory"),
        ("nowhere", "does not exist"),
        ("n" * 300, "does not exist"),
    ],
)
def test_directory_without_a_plan_is_not_a_run(tmp_path, name, found):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(NoRunError) as caught:
        read_plan(tmp_path / name)

    assert str(caught.value) == f"{str(tmp_path / name)!r} {found}"


BROKEN = ["", "[]", '{"tasks": 1}', '{"tasks": [1]}']


@pytest.mark.parametrize("text", BROKEN)
def test_damaged_plan_is_not_reported_as_missing(out, text):
    plan = out / ".tigerflow" / "pipeline.json"
    plan.write_text(text)

    with pytest.raises(PlanError) as caught:
        read_report(out)

    assert str(caught.value) == (
        f"The plan {str(plan)!r} cannot be read: it is damaged, or a newer "
        "TigerFlow wrote it. Update this one, or start the pipeline again, which "
        "writes a new plan"
    )


def test_a_plan_of_a_newer_version_names_both(out):
    plan = out / ".tigerflow" / "pipeline.json"
    plan.write_text('{"steps": []}')
    journal = out / ".tigerflow" / "journal.jsonl"
    journal.write_text(lines(event("run_started", version="12.0")))

    with pytest.raises(PlanError) as caught:
        read_report(out)

    assert str(caught.value) == (
        f"The plan {str(plan)!r} cannot be read: TigerFlow 12.0 wrote it, "
        f"and this is {__version__}: update this one"
    )


def test_unreadable_plan_is_reported(out):
    plan = out / ".tigerflow" / "pipeline.json"
    plan.unlink()
    plan.mkdir()

    with pytest.raises(PlanError) as caught:
        read_plan(out)

    sentence = f"The plan {str(plan)!r} cannot be read: Is a directory"
    assert str(caught.value) == sentence
