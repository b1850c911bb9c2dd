"""A journal's events -> runs, tries, workers and the queue over time."""

import random
from datetime import UTC, datetime

import pytest

from tigerflow.report.page.bins import moments
from tigerflow.report.page.chronicle import SLOWEST, Chronicle, busiest_stretch
from tigerflow.rundir.events import RunStarted, event_of

BEGAN = datetime(2026, 11, 22, 5, tzinfo=UTC).timestamp()


def text(at):
    return datetime.fromtimestamp(BEGAN + at, UTC).isoformat()


def event(kind, at=0.0, **fields):
    return {"event": kind, "at": text(at), **fields}


def tried(stem, ended, seconds=1.0, kind="task_done", task="up", **fields):
    started = text(ended - seconds)
    fields = {"task": task, "file": stem, "started": started} | fields
    return event(kind, ended, seconds=seconds, **fields)


def worker(number, state, at, note="", task="up"):
    return event("worker", at, task=task, worker=number, state=state, note=note)


def take(found, values):
    """Have a chronicle take a journal's event, if it is one."""
    typed = event_of(values)
    if typed is not None:
        found.take(typed)


def chronicle(*events):
    found = Chronicle(".txt")
    for each in events:
        take(found, each)
    return found.runs


def test_a_run_knows_when_it_began_and_ended_and_what_it_said():
    start = event("run_started", 0, version="0.3.2", kinds={"up": "slurm"})

    (run,) = chronicle(start, event("run_stopped", 30, reason="stopped"))

    assert (run.began, run.last) == (BEGAN, BEGAN + 30)
    assert run.end == "stopped"
    assert run.start.version == "0.3.2"
    assert run.start.kinds == {"up": "slurm"}
    assert run.start.params == {}


def test_a_run_that_was_killed_has_not_stopped():
    first, second = chronicle(
        event("run_started"), tried("a", 5), event("run_started", 9)
    )

    assert (first.end, first.last) == ("", BEGAN + 5)
    assert second.count == 0


def test_events_before_any_start_are_those_of_a_run_that_said_nothing():
    (run,) = chronicle(tried("a", 5))

    assert (run.count, run.start) == (1, RunStarted())


def test_of_each_task_the_slowest_tries_are_kept():
    runs = chronicle(
        event("run_started"), *(tried(str(n), n + 1, seconds=n) for n in range(50))
    )

    kept = sorted(runs[0].tries["up"].slowest, reverse=True)
    assert [stem for _, _, stem, _ in kept] == [str(49 - n) for n in range(SLOWEST)]


def test_a_file_is_settled_when_its_last_try_ended():
    (run,) = chronicle(
        event("run_started"),
        event("staged", 0, files=["a.txt", "b.txt"]),
        tried("a", 2),
        tried("a", 3, task="down"),
        tried("b", 4, kind="task_failed"),
        # It is told of both at the end of their window.
        event("file_done", 9, file="a.txt", size=1, mtime_ns=1),
        event("file_failed", 9, file="b.txt", size=1, mtime_ns=1),
    )

    assert list(run.done) == [BEGAN + 3]
    assert list(run.failed) == [BEGAN + 4]
    depths = [moment.depth for moment in moments([run])]
    assert max(depths) == 2
    assert depths[-1] == 0


def test_a_worker_has_its_times_its_host_its_tries_and_its_end():
    (run,) = chronicle(
        event("run_started"),
        worker(1, "launched", 1),
        worker(1, "started", 4, "node3"),
        worker(1, "ready", 6),
        tried("a", 8, worker=1),
        tried("b", 9, worker=2),
        worker(1, "ended", 11, "ended with exit code 0"),
    )

    (life,) = run.lives.values()
    times = [life.launched, life.started, life.ready, life.ended]
    assert [at - BEGAN for at in times] == [1, 4, 6, 11]
    assert (life.host, life.how) == ("node3", "ended with exit code 0")
    assert list(life.tries) == [BEGAN + 7, 1]


def test_older_journals_have_tries_without_workers():
    (run,) = chronicle(event("run_started", tasks={}), tried("a", 5))

    assert (run.count, run.lives) == (1, {})


def test_events_of_other_forms_are_left_out():
    # What a newer version, or nobody, may have written.
    chance = random.Random(3)
    values = [None, True, -1, 1e400, float("nan"), "x", [], ["a"], {}, {"a": []}]
    kinds = ["run_started", "staged", "task_done", "file_done", "worker", "new", None]
    keys = ["task", "file", "files", "seconds", "started", "worker", "state", "kinds"]
    found = Chronicle(".txt")
    take(found, event("run_started"))
    for _ in range(3000):
        made = {key: chance.choice(values) for key in keys}
        at = chance.choice([text(1), "yesterday", None, 7])
        take(found, {"event": chance.choice(kinds), "at": at} | made)

    assert len(found.runs) > 1


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), "1", None])
def test_a_try_without_a_duration_is_left_out(seconds):
    (run,) = chronicle(event("run_started"), tried("a", 5) | {"seconds": seconds})

    assert run.count == 0


# Which runs are looked at together


def a_run(began, lasted, tries):
    ends = [began + lasted * (n + 1) / tries for n in range(tries)]
    return [event("run_started", began), *(tried(f"{at}", at, 0.1) for at in ends)]


def test_runs_that_follow_each_other_are_looked_at_together():
    runs = chronicle(*a_run(0, 1000, 5), *a_run(1050, 10, 2), *a_run(1150, 10, 2))

    assert busiest_stretch(runs) == runs


def test_of_runs_apart_the_one_that_tried_most_is_looked_at():
    runs = chronicle(*a_run(0, 100, 5), *a_run(5000, 100, 9), *a_run(90_000, 9, 2))

    assert busiest_stretch(runs) == [runs[1]]


def test_of_equal_runs_the_last_is_looked_at():
    runs = chronicle(*a_run(0, 100, 5), *a_run(5000, 100, 5))

    assert busiest_stretch(runs) == [runs[1]]
    assert busiest_stretch([]) == []
