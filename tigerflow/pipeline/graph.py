"""The tree of tasks: each depends on one other, or on the input directory."""

from collections.abc import Mapping

Parents = Mapping[str, str | None]


def order(parents: Parents) -> tuple[str, ...]:
    """Return the tasks so that each comes after its parent, else as given.

    `parents` has no cycle and names only tasks.
    """
    ordered: dict[str, None] = {}
    for name in parents:
        waiting = []
        each: str | None = name
        while each is not None and each not in ordered:
            waiting.append(each)
            each = parents[each]
        ordered.update(dict.fromkeys(reversed(waiting)))
    return tuple(ordered)


def find_cycles(parents: Parents) -> tuple[tuple[str, ...], ...]:
    """Return the tasks of each cycle, its first again at the end."""
    cycles: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for start in parents:
        path: list[str] = []
        each: str | None = start
        while each is not None and each not in seen:
            seen.add(each)
            path.append(each)
            each = parents.get(each)
        if each in path:
            cycles.append((*path[path.index(each) :], each))
    return tuple(cycles)
