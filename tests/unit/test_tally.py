"""Counts of files by what the tasks have made of them."""

import random

import pytest

from tigerflow.service.tally import Tally

#: head -> left, right; right -> end
TREE = {"head": None, "left": "head", "right": "head", "end": "right"}
ALL = tuple(TREE)


def counts(tally):
    return {task: tally.of_task(task) for task in TREE}


@pytest.fixture
def tally():
    return Tally(TREE)


def test_nothing_is_counted_before_anything_is_done(tally):
    tally.judge("a", (), ())
    assert (tally.done, tally.failed) == (0, 0)
    assert counts(tally) == dict.fromkeys(TREE, (0, 0))


def test_a_file_is_done_when_all_its_tasks_are(tally):
    for task in ALL:
        assert tally.done == 0
        tally.note("a", task, succeeded=True)
    assert (tally.done, tally.failed) == (1, 0)
    assert counts(tally) == dict.fromkeys(TREE, (1, 0))


def test_a_file_has_failed_when_only_what_depends_on_the_failed_task_is_left(tally):
    tally.note("a", "head", succeeded=True)
    tally.note("a", "right", succeeded=False)
    assert (tally.done, tally.failed) == (0, 0)
    tally.note("a", "left", succeeded=True)
    assert (tally.done, tally.failed) == (0, 1)
    assert counts(tally) == {
        "head": (1, 0),
        "left": (1, 0),
        "right": (0, 1),
        "end": (0, 0),
    }


def test_a_file_that_failed_in_two_branches_is_one(tally):
    tally.judge("a", ["head"], ["left", "right"])
    assert tally.failed == 1


def test_same_event_twice_counts_once(tally):
    tally.judge("a", ALL, ())
    tally.note("a", "left", succeeded=True)
    tally.judge("a", ALL, ())
    assert (tally.done, counts(tally)["left"]) == (1, (1, 0))


def test_retried_task_no_longer_counts_as_failed(tally):
    tally.judge("a", ["head", "left"], ["right"])
    tally.judge("a", ["head", "left"], ())
    assert (tally.done, tally.failed) == (0, 0)
    tally.judge("a", ["head", "left"], ["right"])
    tally.note("a", "right", succeeded=True)
    tally.note("a", "end", succeeded=True)
    assert (tally.done, tally.failed) == (1, 0)
    assert counts(tally) == dict.fromkeys(TREE, (1, 0))


def test_a_refused_file_has_failed_in_no_task_and_a_forgotten_one_not_at_all(tally):
    tally.refuse("{a}")
    tally.judge("b", ALL, ())
    assert (tally.done, tally.failed) == (1, 1)
    assert counts(tally) == dict.fromkeys(TREE, (1, 0))
    tally.forget("{a}")
    tally.forget("b")
    tally.forget("never known")
    assert (tally.done, tally.failed) == (0, 0)
    assert counts(tally) == dict.fromkeys(TREE, (0, 0))


def test_the_first_failed_files_are_named_with_a_task(tally):
    tally.judge("a", ["head", "left"], ["right"])
    tally.judge("b", (), ["head"])
    tally.refuse("{c}")
    assert list(tally.first_failed(9)) == [
        ("a", "right"),
        ("b", "head"),
        ("{c}", None),
    ]
    assert list(tally.first_failed(1)) == [("a", "right")]
    tally.judge("a", ALL, ())
    assert list(tally.first_failed(1)) == [("b", "head")]


def test_counters_are_what_a_recount_gives():
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    tally, truth = Tally(TREE), {}
    for _ in range(3000):
        name = chance.choice("abcdefgh")
        done, failed = truth.setdefault(name, (set(), set()))
        task = chance.choice(ALL)
        match chance.randrange(4):
            case 0:
                tally.note(name, task, succeeded=True)
                done.add(task)
                failed.discard(task)
            case 1:
                tally.note(name, task, succeeded=False)
                failed.add(task)
                done.discard(task)
            case 2:
                tally.forget(name)
                del truth[name]
            case _:
                some = set(chance.sample(ALL, chance.randrange(5)))
                truth[name] = (some, set(ALL) - some - {task})
                tally.judge(name, *truth[name])
        assert counts(tally) == {
            task: (
                sum(task in done for done, _ in truth.values()),
                sum(task in failed for _, failed in truth.values()),
            )
            for task in TREE
        }
        assert tally.done == sum(len(done) == len(ALL) for done, _ in truth.values())
        assert tally.failed == sum(has_failed(*known) for known in truth.values())


def has_failed(done, failed):
    below = {"head": {"left", "right", "end"}, "right": {"end"}}
    blocked = set().union(*(below.get(task, set()) for task in failed))
    return bool(failed) and done | failed | blocked == set(ALL)


def test_tasks_with_work_left_are_listed_only_for_files_with_results(tally):
    tally.judge("new", (), ("head",))
    tally.judge("begun", ("head", "left"), ())
    tally.judge("done", ALL, ())

    assert [tally.left_of(name) for name in ("other", "new", "begun", "done")] == [
        None,
        None,
        ("right", "end"),
        (),
    ]
