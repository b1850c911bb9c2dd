"""The tree of tasks."""

from tigerflow.pipeline.tree import find_cycles, order


def test_order_puts_parents_first_and_keeps_the_rest():
    parents = {"c": "b", "x": None, "b": "a", "a": None, "d": "a"}

    assert order(parents) == ("a", "b", "c", "x", "d")


def test_order_takes_a_chain_longer_than_the_recursion_limit():
    names = [f"t{i}" for i in range(5000)]
    parents = dict(zip(reversed(names), [*reversed(names[:-1]), None], strict=True))

    assert order(parents) == tuple(names)


def test_cycles_are_all_found_each_once():
    parents = {
        "a": "b",
        "b": "a",
        "into": "a",
        "self": "self",
        "fine": "root",
        "root": None,
        "x": "y",
        "y": "z",
        "z": "x",
    }

    assert find_cycles(parents) == (
        ("a", "b", "a"),
        ("self", "self"),
        ("x", "y", "z", "x"),
    )


def test_no_cycle_in_a_forest():
    assert find_cycles({"a": None, "b": "a", "c": "a", "d": "c"}) == ()
