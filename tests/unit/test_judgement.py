"""How far a file is, by what stands in the file system."""

import os

import pytest
from plans import Times, plan_of

from tigerflow.rundir.judgement import OnDisk, Status, judge, list_results

TREE = (("head", None, True), ("left", "head", True), ("right", "head", True))
HIDDEN = (("head", None, False), ("left", "head", True), ("right", "head", False))


def assess(tasks, times, at=10):
    return judge(plan_of(*tasks), Times(times), "a", at)


def outputs_to_make(found):
    return tuple(found.undone.values())


def test_file_without_results_has_all_tasks_to_do():
    found = assess(TREE, {})
    assert found.status is Status.UNDONE
    assert outputs_to_make(found) == ("head/a.out", "left/a.out", "right/a.out")


def test_output_as_old_as_the_input_is_done_and_an_older_one_is_not():
    done = {"head/a.out": 10, "left/a.out": 11, "right/a.out": 12}
    assert assess(TREE, done).status is Status.DONE
    assert tuple(assess(TREE, done, at=11).undone) == ("head",)


def test_error_blocks_what_depends_on_it_and_nothing_else():
    found = assess(TREE, {"head/a.err": 10})
    assert (found.status, found.failed, outputs_to_make(found)) == (
        Status.FAILED,
        ("head",),
        (),
    )
    found = assess(TREE, {"head/a.out": 10, "left/a.err": 10})
    assert (found.status, found.failed, tuple(found.undone)) == (
        Status.UNDONE,
        ("left",),
        ("right",),
    )


def test_error_beside_an_output_or_older_than_the_input_does_not_count():
    times = {"head/a.out": 10, "left/a.out": 10, "right/a.out": 10}
    assert assess(TREE, times | {"left/a.err": 11}).status is Status.DONE
    found = assess(TREE, {"head/a.err": 9})
    assert (found.status, found.failed) == (Status.UNDONE, ())


def test_temporary_output_is_a_target_only_for_a_leaf():
    hidden = ".tigerflow/tasks/right/a.out"
    assert outputs_to_make(assess(HIDDEN, {})) == ("left/a.out", hidden)
    assert assess(HIDDEN, {"left/a.out": 10, hidden: 10}).status is Status.DONE
    assert assess(HIDDEN, {"head/a.err": 10}).status is Status.FAILED


def test_leaves_are_those_without_children():
    parents = {"a": None, "b": "a", "c": "a", "d": "c"}
    plan = plan_of(*((name, parent, True) for name, parent in parents.items()))
    assert plan.leaves == {"b", "d"}


def test_results_and_lineage_of_a_file():
    plan = plan_of(*HIDDEN)
    assert plan.lineage("left") == {"head", "left"}
    assert {str(path) for path in plan.files_of("a.b")} == {
        ".tigerflow/tasks/head/a.b.out",
        "head/a.b.err",
        "left/a.b.out",
        "left/a.b.err",
        ".tigerflow/tasks/right/a.b.out",
        "right/a.b.err",
    }


@pytest.mark.parametrize("name", ["a.out", "two words.out", "\udcff.out"])
def test_times_are_the_same_looked_up_and_listed(tmp_path, name):
    directory = tmp_path / "head"
    directory.mkdir()
    (directory / name).touch()
    os.utime(directory / name, ns=(5, 7))
    (directory / "dangling.out").symlink_to("nowhere")
    plan = plan_of(("head", None, True), ("none", "head", True))
    head, none = plan.tasks
    listed, looked = list_results(tmp_path, plan), OnDisk(tmp_path)
    stem = name.removesuffix(".out")
    for task, each in ((head, stem), (head, "dangling"), (none, "x")):
        assert listed.output(task, each) == looked.output(task, each)
    assert listed.output(head, stem) == 7


def reach(tasks, times, *crowded):
    found = assess(tasks, times).within_reach(crowded)
    return list(found.wanted.values()), found.stopped_at


def test_branch_of_a_crowded_task_is_left_out_and_the_others_are_made():
    assert reach(TREE, {}) == (["head/a.out", "left/a.out", "right/a.out"], None)
    assert reach(TREE, {}, "left") == (["head/a.out", "right/a.out"], "left")
    assert reach(TREE, {"head/a.out": 11}, "left") == (["right/a.out"], "left")
    assert reach(TREE, {}, "left", "right") == (["head/a.out"], "left")
    assert reach(TREE, {}, "head") == ([], "head")


def test_crowded_task_that_has_done_its_part_stops_nothing():
    times = {"head/a.out": 11}
    expected = (["left/a.out", "right/a.out"], None)
    assert reach(TREE, times, "head") == expected


def test_file_that_only_waits_for_crowded_tasks_has_nothing_to_be_made():
    times = {"head/a.out": 11, "right/a.out": 12}
    assert reach(TREE, times, "left") == ([], "left")
    head = {".tigerflow/tasks/head/a.out": 11}
    assert reach(HIDDEN, head, "left", "right") == ([], "left")


def test_output_that_is_not_kept_stays_for_a_branch_that_is_left_out():
    head, right = ".tigerflow/tasks/head/a.out", ".tigerflow/tasks/right/a.out"
    assert reach(HIDDEN, {}, "left") == ([head, right], "left")
    # Asked for although it is there: Snakemake would remove it after `right`.
    assert reach(HIDDEN, {head: 11}, "left") == ([head, right], "left")
    # And not when all that depends on it is asked for as well.
    assert reach(HIDDEN, {head: 11}) == (["left/a.out", right], None)


def test_branch_behind_an_error_is_not_within_reach():
    times = {"head/a.out": 11, "right/a.err": 12}
    assert reach(TREE, times) == (["left/a.out"], None)


def test_outputs_exist_when_none_is_older_than_the_input():
    made = assess(TREE, {"head/a.out": 10, "left/a.out": 9}).made
    assert made.issuperset(["head"])
    assert not made.issuperset(["head", "left"])
    assert not made.issuperset(["right"])


@pytest.mark.parametrize(
    ("tasks", "there", "done"),
    [
        (TREE, "", ()),
        (TREE, "head/a.out", ("head",)),
        (TREE, "head/a.out left/a.out", ("head", "left")),
        (TREE, "head/a.out left/a.err", ("head",)),
        (TREE, "head/a.err", ()),
        # It was kept, and is to be made again.
        (TREE, "left/a.out", ("left",)),
        (HIDDEN, ".tigerflow/tasks/head/a.out", ("head",)),
        # It was not kept, and is gone because what depends on it is done, or failed.
        (HIDDEN, "left/a.out", ("head", "left")),
        (HIDDEN, "left/a.err", ("head",)),
        (HIDDEN, "", ()),
    ],
)
def test_tasks_that_are_done_are_known(tasks, there, done):
    assert assess(tasks, dict.fromkeys(there.split(), 10)).done == done
