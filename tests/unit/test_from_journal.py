"""A journal without a plan -> a report."""

import json

import pytest
from journals import SPEECH, write_run

from tigerflow.errors import PlanError
from tigerflow.report.as_json import as_json
from tigerflow.report.from_journal import salvage
from tigerflow.report.reading import read_report
from tigerflow.rundir.plan import PlannedTask

PROBLEM = PlanError("pipeline.json", "it is damaged")


@pytest.fixture
def out(tmp_path):
    out = tmp_path / "results"
    write_run(out, 300, seed=11)
    return out


def test_a_report_by_the_journal_has_what_one_by_the_files_has(out):
    whole = read_report(out)

    report, plan = salvage(out, PROBLEM)

    assert report.notes == ("The plan 'pipeline.json' cannot be read: it is damaged.",)
    assert plan.input_ext == ".mp4"
    assert [(task.name, task.depends_on) for task in plan.tasks] == [
        (task.name, task.parent) for task in SPEECH
    ]
    assert whole.total == 300
    found, expected = as_json(report), as_json(whole)
    assert found["progress"] == expected["progress"]
    for task, of_task in expected["errors"].items():
        paths = [each["path"] for each in found["errors"][task]]
        assert paths == [each["path"] for each in of_task]


def test_files_that_were_only_staged_wait(out):
    journal = out / ".tigerflow" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    staged = {"event": "staged", "at": "x", "files": ["a.b.mp4"]}
    journal.write_text(lines[0] + "\n" + json.dumps(staged) + "\n")
    for error in out.glob("*/*.err"):
        error.unlink()

    report, plan = salvage(out, PROBLEM)

    assert as_json(report)["progress"]["pipeline"]["staged"] == 1
    assert plan.input_ext == ""


@pytest.mark.parametrize(
    "text",
    ["", '{"event": "run_started", "tasks": 1}', '{"event": "run_started"}', "x"],
)
def test_a_journal_that_names_no_task_is_not_enough(out, text):
    (out / ".tigerflow" / "journal.jsonl").write_text(text)

    with pytest.raises(PlanError) as caught:
        salvage(out, PROBLEM)

    assert caught.value is PROBLEM


def test_tasks_whose_parents_are_unknown_start_from_the_input(out):
    start = {"event": "run_started", "tasks": {"one": "two", "two": None, "three": []}}
    (out / ".tigerflow" / "journal.jsonl").write_text(json.dumps(start))

    _, plan = salvage(out, PROBLEM)

    assert plan.tasks == tuple(
        PlannedTask(name, None, "", keep_output=True) for name in start["tasks"]
    )
