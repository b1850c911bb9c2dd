"""What the journal tells of earlier runs."""

from tigerflow.rundir.events import (
    FileDone,
    FileFailed,
    FileForgotten,
    FilesFound,
    FilesStaged,
    RunStarted,
    TaskDone,
    TaskFailed,
)
from tigerflow.rundir.history import read_history

NOW = {"up": "v2", "down": "w1"}


def started(**versions):
    return RunStarted(versions=versions)


def settled(file, size, mtime_ns, kind=FileDone):
    return kind(file=file, size=size, mtime_ns=mtime_ns)


def processed(task, file, kind=TaskDone):
    return kind(task=task, file=file)


def test_last_settled_content_of_each_file_is_known():
    events = [
        settled("a", 1, 10),
        settled("b", 2, 20, FileFailed),
        settled("a", 3, 30),
        FileDone(file="old"),
        settled("c", 4, 40),
        # It is tried again, and may still have some results.
        FileForgotten(file="c"),
        FilesFound(files=["d"], signatures=[[5, 50]]),
    ]
    assert read_history(events, NOW).taken == {
        "a": (3, 30),
        "b": (2, 20),
        "c": (4, 40),
        "d": (5, 50),
    }


def test_content_of_a_file_is_known_when_a_crash_came_before_its_end():
    events = [
        settled("a", 1, 10),
        FilesStaged(files=["a", "b"], signatures=[[3, 30], [4, 40]]),
        settled("b", 5, 50),
        # As older versions wrote it.
        FilesStaged(files=["c"]),
    ]
    assert read_history(events, NOW).taken == {"a": (3, 30), "b": (5, 50)}


def test_files_that_a_task_processed_in_another_version_are_outdated():
    events = [
        started(up="v1", down="w1"),
        processed("up", "a"),
        processed("up", "b", TaskFailed),
        processed("down", "a"),
        started(up="v2", down="w1"),
        processed("up", "c"),
    ]
    found = read_history(events, NOW)
    assert found.outdated["up"] == {"a", "b"}
    assert found.outdated_tasks("a") == ["up"]
    assert found.outdated_tasks("c") == []


def test_file_that_was_processed_again_since_is_not_outdated():
    events = [
        started(up="v1"),
        processed("up", "a"),
        started(up="v2"),
        processed("up", "a"),
    ]
    assert read_history(events, NOW).outdated_tasks("a") == []


def test_task_that_was_changed_back_is_as_it_was():
    events = [started(up="v2"), processed("up", "a"), started(up="v1")]
    assert read_history(events, NOW).outdated_tasks("a") == []


def test_results_of_unknown_version_count_as_current():
    events = [RunStarted(), processed("up", "a"), processed("gone", "a")]
    assert read_history(events, NOW).outdated_tasks("a") == []


def test_forgotten_file_is_no_longer_outdated():
    found = read_history([started(up="v1"), processed("up", "a")], NOW)
    found.forget("a")
    assert found.outdated_tasks("a") == []
