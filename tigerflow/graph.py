"""The tree of tasks: each depends on one other, or on the input directory."""

from collections.abc import Mapping, Sequence

Parents = Mapping[str, str | None]


def order(parents: Parents) -> tuple[str, ...]:
    """Return the tasks so that each comes after its parent, else as given.

    `parents` has no cycle and names only tasks.
    """
    ordered: list[str] = []

    def place(name: str) -> None:
        if name in ordered:
            return
        parent = parents[name]
        if parent is not None:
            place(parent)
        ordered.append(name)

    for name in parents:
        place(name)
    return tuple(ordered)


def find_cycle(parents: Parents) -> tuple[str, ...]:
    """Return the tasks of a cycle, its first again at the end; empty without one."""
    for start in parents:
        path = [start]
        while (parent := parents.get(path[-1])) is not None:
            if parent in path:
                return (*path[path.index(parent) :], parent)
            path.append(parent)
    return ()


def leaves(parents: Parents) -> Sequence[str]:
    """Return the tasks that no other depends on."""
    return [name for name in parents if name not in parents.values()]
