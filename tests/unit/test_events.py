"""Lines of journals, as earlier and later versions write them <-> typed events."""

import json

import pytest

from tigerflow.rundir.events import (
    FileDone,
    FileFailed,
    FileForgotten,
    FilesFound,
    FilesStaged,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskFailed,
    TaskStopped,
    UnknownEvent,
    WorkerChanged,
    WorkerState,
    event_of,
    values_of,
)

AT = "2026-11-22T05:00:00.000+00:00"

#: As version 0.3.1 wrote them, and what they are.
EARLIER = {
    '{"event": "run_started", "at": "%s", "pid": 7, "host": "login", '
    '"version": "0.3.1", "tasks": {"up": null}}': RunStarted(
        at=AT, pid=7, host="login", version="0.3.1", tasks={"up": None}
    ),
    '{"event": "staged", "at": "%s", "files": ["a.txt"]}': FilesStaged(
        at=AT, files=["a.txt"]
    ),
    '{"event": "task_done", "at": "%s", "task": "up", "file": "a", '
    '"started": "x", "seconds": 1}': TaskDone(
        at=AT, task="up", file="a", started="x", seconds=1
    ),
    '{"event": "file_done", "at": "%s", "file": "a.txt"}': FileDone(
        at=AT, file="a.txt"
    ),
    '{"event": "run_stopped", "at": "%s", "reason": "told to"}': RunStopped(
        at=AT, reason="told to"
    ),
}

#: As this version writes them, without their time.
WRITTEN = {
    '{"event": "staged", "files": ["a"], "signatures": [[1, 2]]}': FilesStaged(
        files=["a"], signatures=[[1, 2]]
    ),
    '{"event": "found", "files": [], "signatures": []}': FilesFound(
        files=[], signatures=[]
    ),
    '{"event": "task_failed", "task": "up", "file": "a", "started": "x", '
    '"seconds": 0.5, "worker": 3}': TaskFailed(
        task="up", file="a", started="x", seconds=0.5, worker=3
    ),
    '{"event": "file_failed", "file": "a.txt", "size": 1, "mtime_ns": 2}': FileFailed(
        file="a.txt", size=1, mtime_ns=2
    ),
    '{"event": "file_forgotten", "file": "a.txt"}': FileForgotten(file="a.txt"),
    '{"event": "worker", "task": "up", "worker": 3, "state": "ready", '
    '"note": ""}': WorkerChanged(task="up", worker=3, state=WorkerState.READY),
    '{"event": "task_stopped", "task": "up", "reason": "no"}': TaskStopped(
        task="up", reason="no"
    ),
}


@pytest.mark.parametrize("line", EARLIER)
def test_events_of_earlier_versions_are_read_with_defaults(line):
    assert event_of(json.loads(line % AT)) == EARLIER[line]


@pytest.mark.parametrize("line", WRITTEN)
def test_events_are_written_with_the_names_and_keys_that_readers_know(line):
    values = values_of(WRITTEN[line])

    assert values.pop("at") == ""
    assert json.dumps(values) == line
    assert event_of(json.loads(line)) == WRITTEN[line]


def test_keys_of_later_versions_are_left_out():
    values = {"event": "file_done", "at": AT, "file": "a", "colour": ["blue"]}

    assert event_of(values) == FileDone(at=AT, file="a")


@pytest.mark.parametrize("name", ["warped", "", None, ["file_done"]])
def test_events_of_later_versions_are_unknown(name):
    values = {"event": name, "at": AT, "file": 7}

    assert event_of(values) == UnknownEvent(at=AT, event=name)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"at": AT},
        {"event": "task_done", "task": "up"},
        {"event": "file_done", "file": None},
        {"event": "file_done", "file": "a", "size": True},
        {"event": "file_done", "file": "a", "size": 1.5},
        {"event": "staged", "files": ["a"], "signatures": [[1]]},
        {"event": "staged", "files": ["a"], "signatures": [[1, 10**20]]},
    ],
)
def test_what_lacks_a_key_or_has_another_form_is_no_event(values):
    assert event_of(values) is None
