"""The tree of tasks: each depends on one other, or on the input directory."""

import keyword
from collections.abc import Mapping, Sequence

from tigerflow.errors import did_you_mean
from tigerflow.pipeline.mistakes import Mistakes
from tigerflow.pipeline.reading import ReadTask

#: Task -> the task that it depends on, or None.
Parents = Mapping[str, str | None]


def rule_name(task_name: str) -> str:
    """Return the name of a task's Snakemake rule, which is a Python identifier."""
    name = task_name.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) or name == "all" else name


def check_tree(mistakes: Mistakes, tasks: Sequence[ReadTask]) -> None:
    """Note tasks with the same name, and tasks whose input no other task makes."""
    by_name: dict[str, ReadTask] = {}
    rules: dict[str, str] = {}
    for task in tasks:
        name = task.draft.name
        if name is None:
            continue
        other = rules.setdefault(rule_name(name), name)
        if name in by_name:
            mistakes.add((*task.place, "name"), f"another task is named {name!r}, too")
        elif other != name:
            sentence = f"{name!r} and {other!r} have the same rule name"
            mistakes.add((*task.place, "name"), sentence)
        by_name.setdefault(name, task)
    for task in tasks:
        _check_parent(mistakes, task, by_name)
    _check_roots(mistakes, tasks)
    _check_cycles(mistakes, by_name)


def _check_parent(
    mistakes: Mistakes,
    task: ReadTask,
    by_name: Mapping[str, ReadTask],
) -> None:
    parent_name = task.draft.depends_on
    if parent_name is None:
        return
    parent = by_name.get(parent_name)
    if parent is None:
        others = [name for name in by_name if name != task.draft.name]
        listed = f" (tasks: {', '.join(others)})" if others else ""
        hint = did_you_mean(parent_name, others) or listed
        sentence = f"{parent_name!r} is not a task{hint}"
        mistakes.add((*task.place, "depends_on"), sentence)
        return
    made, read = parent.draft.output_ext, task.draft.input_ext
    if made is not None and read is not None and made != read:
        sentence = (
            f"{read!r} does not match the output_ext of {parent_name!r}, "
            f"which is {made!r}"
        )
        mistakes.add((*task.place, "input_ext"), sentence)


def _check_roots(mistakes: Mistakes, tasks: Sequence[ReadTask]) -> None:
    roots = [task for task in tasks if task.is_root and task.draft.input_ext]
    for root in roots[1:]:
        first, own = roots[0].draft, root.draft.input_ext
        if own != first.input_ext:
            sentence = (
                f"{own!r} differs from the {first.input_ext!r} of {first.name!r}; "
                "tasks without depends_on read the same files"
            )
            mistakes.add((*root.place, "input_ext"), sentence)


def _check_cycles(mistakes: Mistakes, by_name: Mapping[str, ReadTask]) -> None:
    parents = {
        name: task.draft.depends_on if task.draft.depends_on in by_name else None
        for name, task in by_name.items()
    }
    for cycle in find_cycles(parents):
        place = by_name[cycle[0]].place
        sentence = f"the tasks depend on each other: {' -> '.join(cycle)}"
        mistakes.add((*place, "depends_on"), sentence)


def order(parents: Parents) -> tuple[str, ...]:
    """Return the tasks with each after its parent, otherwise in the given order.

    Args:
        parents: without cycles; every parent is one of its keys.
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
    """Return the tasks of each cycle, with the first one repeated at the end."""
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
