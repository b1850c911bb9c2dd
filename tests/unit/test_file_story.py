"""The story of one file: found by any of its names, told from files and journal."""

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from tigerflow.cli._story import print_stories
from tigerflow.report.file_finder import UnknownFileError
from tigerflow.report.file_story import StoryState, read_stories, stories_json
from tigerflow.rundir.plan import Plan, PlannedTask

AT = "2026-11-22T05:00:00.000+00:00"
CHAIN = Plan(
    ".txt",
    (
        PlannedTask("clean", None, ".txt", keep_output=True),
        PlannedTask("ask", "clean", ".json", keep_output=True),
        PlannedTask("end", "ask", ".md", keep_output=False),
    ),
)
DONE, FAILED, RUNNING, QUEUED, NOT_DONE = StoryState


@pytest.fixture
def out(tmp_path):
    """Two files: `a.b` is done by all tasks; `bad` has failed in the second."""
    out, inputs = tmp_path / "results", tmp_path / "inputs"
    for directory in (inputs, out / ".tigerflow" / "tasks" / "end"):
        directory.mkdir(parents=True)
    (out / ".tigerflow" / "input").symlink_to(inputs)
    (out / ".tigerflow" / "pipeline.json").write_text(CHAIN.text)
    for name in ("a.b.txt", "bad.txt", "notes.md"):
        (inputs / name).touch()
    error = {
        "file": "bad.txt",
        "timestamp": AT,
        "exception_type": "ValueError",
        "message": "not so",
        "traceback": "Traceback\n  line 1\nValueError: not so",
        "printed": "tried\n",
    }
    for name, text in (
        ("clean/a.b.txt", ""),
        ("ask/a.b.json", ""),
        (".tigerflow/tasks/end/a.b.md", ""),
        ("clean/bad.txt", ""),
        ("ask/bad.err", json.dumps(error)),
    ):
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return out


def write_journal(out, *events):
    lines = (json.dumps({"at": AT} | each) + "\n" for each in events)
    (out / ".tigerflow" / "journal.jsonl").write_text("".join(lines))


def serve(out, running):
    """Have a service run elsewhere, and say what its workers process."""
    state = out / ".tigerflow"
    who = {"pid": 7, "host": "elsewhere"}
    (state / "run.pid").write_text(json.dumps(who))
    (state / "running.json").write_text(json.dumps(who | {"tasks": running}))


def tried(task, stem, kind="task_done", worker=1):
    event = {"event": kind, "task": task, "file": stem, "worker": worker}
    return event | {"started": AT, "seconds": 1.5}


def story(out, name="bad"):
    [found], _ = read_stories(out, [name])
    return found


def states(found):
    return {task.name: (task.state, task.reason) for task in found.tasks}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("bad", "bad.txt"),
        ("bad.txt", "bad.txt"),
        ("bad.err", "bad.txt"),
        ("ask/bad.err", "bad.txt"),
        ("results/ask/bad.err", "bad.txt"),
        ("inputs/bad.txt", "bad.txt"),
        ("results/clean/bad.txt", "bad.txt"),
        ("/nowhere/any more/bad.txt", "bad.txt"),
        ("a.b", "a.b.txt"),
        ("a.b.json", "a.b.txt"),
        ("results/ask/a.b.json", "a.b.txt"),
        ("results/.tigerflow/tasks/end/a.b.md", "a.b.txt"),
        ("a.b.md", "a.b.txt"),
    ],
)
def test_a_file_is_found_by_each_of_its_names(out, monkeypatch, given, meant):
    monkeypatch.chdir(out.parent)

    assert story(out, given).name == meant
    assert story(out, str(Path(given).absolute())).name == meant


def test_same_file_is_reported_once(out):
    found, _ = read_stories(out, ["bad", "a.b", "ask/bad.err"])

    assert [each.name for each in found] == ["bad.txt", "a.b.txt"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("bat.txt", "No file 'bat.txt' in the run of {out!r}; did you mean 'bad.txt'?"),
        ("bda", "No file 'bda' in the run of {out!r}; did you mean 'bad'?"),
        ("zebra.mp4", "No file 'zebra.mp4' in the run of {out!r}"),
        (
            "inputs/notes.md",
            "'inputs/notes.md' is no input of the pipeline: these end in '.txt'",
        ),
        ("", "No file '' in the run of {out!r}"),
        ("n" * 300, "No file '" + "n" * 300 + "' in the run of {out!r}"),
    ],
)
def test_a_name_that_no_file_has_is_refused_with_the_nearest(out, given, said):
    with pytest.raises(UnknownFileError) as caught:
        read_stories(out, [given])

    assert str(caught.value) == said.format(out=str(out))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("scna_01234.txt", "scan_01234.txt"),
        ("can_04999", "scan_04999"),
    ],
)
def test_the_nearest_of_many_names_is_found(out, given, meant):
    for number in range(5000):
        (out.parent / "inputs" / f"scan_{number:05}.txt").touch()

    with pytest.raises(UnknownFileError) as caught:
        read_stories(out, [given])

    assert f"; did you mean '{meant}" in str(caught.value)


def test_without_a_journal_the_files_tell(out):
    found, done = story(out), story(out, "a.b")

    assert (found.state, done.state) == ("errored", "finished")
    assert states(found) == {
        "clean": (DONE, None),
        "ask": (FAILED, None),
        "end": (NOT_DONE, "ask failed"),
    }
    clean, ask, end = found.tasks
    assert (clean.result, end.result) == (out / "clean" / "bad.txt", None)
    assert done.tasks[2].result == out / ".tigerflow" / "tasks" / "end" / "a.b.md"
    assert [task.tries for task in found.tasks] == [(), (), ()]
    assert ask.failure.read().message == "not so"
    assert ask.failure.printed() == "tried\n"


def test_the_journal_adds_each_try_with_its_worker_and_host(out):
    write_journal(
        out,
        {"event": "run_started", "host": "login"},
        {
            "event": "worker",
            "task": "ask",
            "worker": 2,
            "state": "started",
            "note": "n7",
        },
        {"event": "staged", "files": ["bad.txt"], "signatures": [[1, 1]]},
        tried("clean", "bad"),
        tried("ask", "bad", "task_failed", worker=2),
        tried("ask", "other", "task_failed"),
        {"event": "run_started", "host": "login2"},
        tried("ask", "bad", "task_failed", worker=0),
    )

    found = story(out)

    assert found.taken_up == AT
    clean, ask, _ = found.tasks
    assert [(each.worker, each.host) for each in clean.tries] == [(1, "login")]
    assert [(each.worker, each.host) for each in ask.tries] == [
        (2, "n7"),
        (None, "login2"),
    ]
    assert [each.timing.succeeded for each in ask.tries] == [False, False]


def test_files_of_a_service_are_running_or_queued(out):
    for stem in ("new", "next", "later"):
        (out.parent / "inputs" / f"{stem}.txt").touch()
    names = ["new.txt", "next.txt"]
    write_journal(out, {"event": "run_started"}, {"event": "staged", "files": names})
    serve(out, {"clean": {"new": 3}})

    found = story(out, "new")

    assert states(found) == {
        "clean": (RUNNING, None),
        "ask": (QUEUED, "it waits for clean"),
        "end": (QUEUED, "it waits for ask"),
    }
    assert found.tasks[0].worker == 3
    assert states(story(out, "next"))["clean"] == (QUEUED, None)
    assert states(story(out, "later"))["clean"] == (NOT_DONE, None)
    # Nothing is in progress once the service is gone, though its file is there still.
    (out / ".tigerflow" / "run.pid").unlink()
    assert states(story(out, "new"))["clean"] == (NOT_DONE, None)


def test_files_of_an_earlier_service_no_longer_count_as_running(out):
    (out.parent / "inputs" / "new.txt").touch()
    write_journal(out, {"event": "staged", "files": ["new.txt"]})
    serve(out, {"clean": {"new": 3}})
    (out / ".tigerflow" / "run.pid").write_text('{"pid": 8, "host": "elsewhere"}')

    assert states(story(out, "new"))["clean"] == (QUEUED, None)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": 7, "host": "elsewhere"}'])
def test_a_damaged_list_of_running_files_is_none(out, text):
    serve(out, {})
    (out / ".tigerflow" / "running.json").write_text(text)

    assert story(out).state == "errored"


def test_a_task_that_cannot_run_says_why(out):
    (out.parent / "inputs" / "new.txt").touch()
    write_journal(
        out,
        {"event": "run_started"},
        {"event": "staged", "files": ["new.txt"]},
        {"event": "task_stopped", "task": "clean", "reason": "no module"},
    )

    assert states(story(out, "new")) == dict.fromkeys(
        ("clean", "ask", "end"), (NOT_DONE, "stopped: no module")
    )


def test_a_file_whose_input_is_gone_says_so(out):
    (out / "ask" / "bad.err").unlink()
    (out.parent / "inputs" / "bad.txt").unlink()

    found = story(out)

    assert (found.state, found.input) == ("gone", None)


def test_file_that_snakemake_cannot_handle_is_reported_with_the_reason(out):
    (out.parent / "inputs" / "{x}.txt").touch()

    found = story(out, "{x}.txt")

    assert states(found)["clean"] == (FAILED, None)
    assert "wildcard" in found.tasks[0].failure.read().message


def test_run_without_a_plan_is_reported_from_its_journal(out):
    (out / ".tigerflow" / "pipeline.json").write_text("{")
    write_journal(
        out,
        {"event": "run_started", "tasks": {"clean": None, "ask": "clean"}},
        {"event": "staged", "files": ["bad.txt"]},
        tried("clean", "bad"),
        tried("ask", "bad", "task_failed"),
    )

    found = story(out)

    assert {name: state for name, (state, _) in states(found).items()} == {
        "clean": DONE,
        "ask": FAILED,
    }


def test_json_has_all_that_the_text_has(out):
    write_journal(out, {"event": "run_started"}, tried("clean", "bad"))

    [value] = stories_json([story(out)])

    assert json.loads(json.dumps(value)) == value
    assert (value["file"], value["state"]) == ("bad.txt", "errored")
    clean, ask, end = value["tasks"]
    assert clean["tries"][0]["finished_at"] == "2026-11-22T05:00:01.500000+00:00"
    assert clean["tries"][0]["status"] == "success"
    assert clean["error"] is None
    assert ask["error"]["path"] == str(out / "ask" / "bad.err")
    assert ask["error"]["printed"] == "tried\n"
    assert (end["state"], end["reason"]) == ("not done", "ask failed")


# As text


@pytest.fixture
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def text_of(out, *names, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    stories, notes = read_stories(out, names)
    print_stories(stories, notes, Path("my results"), console)
    return console.file.getvalue()


@pytest.mark.usefixtures("_utc")
def test_the_text_tells_how_a_file_failed(out):
    write_journal(
        out,
        {"event": "run_started", "host": "login"},
        {"event": "staged", "files": ["bad.txt"], "signatures": [[1, 1]]},
        tried("clean", "bad"),
        tried("ask", "bad", "task_failed", worker=2),
    )

    assert text_of(out, "bad") == (
        "bad.txt: failed\n"
        f"Input:    {out.parent}/inputs/bad.txt\n"
        "Taken up: 2026-11-22 05:00:00\n"
        "\n"
        "clean: done\n"
        "  2026-11-22 05:00:00  done in 1.5 s, worker 1 on login\n"
        f"  {out}/clean/bad.txt\n"
        "\n"
        "ask: failed\n"
        "  2026-11-22 05:00:00  failed after 1.5 s, worker 2 on login\n"
        f"  {out}/ask/bad.err\n"
        "  ValueError: not so\n"
        "\n"
        "  Traceback\n"
        "    line 1\n"
        "\n"
        "  It printed:\n"
        "    tried\n"
        "\n"
        "end: not done (ask failed)\n"
        "\n"
        "When the cause is fixed:\n"
        "  tigerflow retry 'my results' bad.txt\n"
    )


@pytest.mark.usefixtures("_utc")
def test_the_text_without_a_journal_has_the_time_of_the_error(out):
    assert (f"ask: failed\n  {out}/ask/bad.err\n  2026-11-22 05:00:00\n") in text_of(
        out, "bad"
    )


def test_many_tries_are_counted_and_the_last_are_shown(out):
    tries = [tried("ask", "bad", "task_failed", worker=n + 1) for n in range(8)]
    write_journal(out, {"event": "run_started"}, *tries)

    text = text_of(out, "bad")

    assert "ask: failed\n  3 earlier tries\n" in text
    assert [f"worker {n + 1}\n" in text for n in range(8)] == [False] * 3 + [True] * 5


def test_a_terminal_takes_no_orders_from_an_error(out):
    path = out / "ask" / "bad.err"
    error = json.loads(path.read_text()) | {"message": "\x1b[2J", "printed": "\x07"}
    path.write_text(json.dumps(error))

    text = text_of(out, "bad")

    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.usefixtures("_utc")
def test_a_narrow_terminal_gets_shorter_lines(out, monkeypatch):
    monkeypatch.chdir(out.parent)
    write_journal(out, {"event": "run_started", "host": "login"}, tried("clean", "a.b"))

    console = Console(
        file=io.StringIO(), width=40, color_system=None, force_terminal=True
    )
    stories, notes = read_stories(out, ["a.b"])
    print_stories(stories, notes, Path("results"), console)

    assert console.file.getvalue() == (
        "a.b.txt: done\n"
        "Input:    inputs/a.b.txt\n"
        "\n"
        "clean: done\n"
        "  2026-11-22 05:00:00  done in 1.5 s\n"
        "    worker 1 on login\n"
        "  results/clean/a.b.txt\n"
        "\n"
        "ask: done\n"
        "  results/ask/a.b.json\n"
        "\n"
        "end: done\n"
        "  results/.tigerflow/tasks/end/a.b.md\n"
    )
