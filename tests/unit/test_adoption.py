"""Output directories that the Dask-based TigerFlow has left.

They are laid out as its version 0.3.1 lays them out.
"""

import os

import pytest

from tigerflow.errors import NoRunError
from tigerflow.rundir.adoption import adopt
from tigerflow.rundir.plan import Plan, PlannedTask

NANOSECONDS = 10**9


def plan_of(*tasks):
    return Plan(".txt", tuple(PlannedTask(*task) for task in tasks))


EMBED = ("embed", None, ".npy", False)
INGEST = ("ingest", "embed", ".out", False)


@pytest.fixture
def out(tmp_path):
    """Two files were finished, long ago, by the tasks `embed` and `ingest`."""
    state = tmp_path / ".tigerflow"
    for name in ("embed/logs", "ingest/logs", ".finished", ".symlinks"):
        (state / name).mkdir(parents=True)
    for second, name in enumerate(("a.txt", "b c.txt", "d.csv")):
        path = state / ".finished" / name
        path.touch()
        os.utime(path, ns=(second * NANOSECONDS, second * NANOSECONDS))
    return tmp_path


def marks(out, task):
    place = out / ".tigerflow" / "tasks" / task
    found = place.iterdir() if place.exists() else ()
    return {path.name: path.stat().st_mtime_ns // NANOSECONDS for path in found}


def test_finished_files_of_a_last_task_without_output_are_marked_as_of_then(out):
    adopt(out, plan_of(EMBED, INGEST))
    assert marks(out, "ingest") == {"a.out": 0, "b c.out": 1}
    assert marks(out, "embed") == {}


def test_files_are_taken_over_only_once(out):
    adopt(out, plan_of(EMBED, INGEST))
    (out / ".tigerflow" / "tasks" / "ingest" / "a.out").unlink()
    adopt(out, plan_of(EMBED, INGEST))
    assert marks(out, "ingest") == {"b c.out": 1}


def test_crash_between_two_marks_loses_none(out):
    results = out / ".tigerflow" / "tasks" / "ingest"
    results.mkdir(parents=True)
    (results / "a.out").touch()
    adopt(out, plan_of(EMBED, INGEST))
    assert set(marks(out, "ingest")) == {"a.out", "b c.out"}


@pytest.mark.parametrize(
    "task",
    [
        ("ingest", "embed", ".out", True),
        ("added", "embed", ".out", False),
    ],
)
def test_no_marks_are_made_for_tasks_with_outputs_or_that_are_new(out, task):
    adopt(out, plan_of(EMBED, task))
    assert marks(out, task[0]) == {}
    assert (out / ".tigerflow" / ".finished").is_dir()


def test_other_directories_are_left_alone(tmp_path):
    adopt(tmp_path, plan_of(EMBED))
    assert list(tmp_path.iterdir()) == []


def test_such_a_directory_is_named_where_a_run_is_wanted(out):
    assert "output directory of a Dask-based TigerFlow" in str(NoRunError(out))
