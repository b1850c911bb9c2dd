"""How far each file of a run directory is, by the files that stand there. Pure.

One judgement, for the service, which asks the file system for each file, and for those
who look on, and list it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from tigerflow.rundir.plan import Plan

#: Stem -> time of last change in ns, of the files in one directory.
Times = Mapping[str, int]


class TaskState(StrEnum):
    """How far one task is with one file."""

    PROCESSED = "processed"
    STAGED = "staged"
    FAILED = "failed"
    #: A task before it is not done yet.
    WAITING = "waiting"
    #: A task before it has failed.
    BLOCKED = "blocked"


class FileState(StrEnum):
    """How far the pipeline is with one file."""

    FINISHED = "finished"
    IN_PROGRESS = "in_progress"
    STAGED = "staged"
    ERRORED = "errored"


@dataclass(frozen=True)
class Node:
    """A task's place in the pipeline."""

    name: str
    #: The task that it depends on, or None for the input directory.
    parent: str | None
    #: Whether its outputs stay: they are kept, or no other task depends on it.
    is_target: bool


N = TypeVar("N", bound=Node)

_TRIED = frozenset({TaskState.PROCESSED, TaskState.FAILED})
#: There is something to do.
UNDONE = frozenset({TaskState.STAGED, TaskState.WAITING})
_WITHOUT_RESULT = frozenset({TaskState.FAILED, TaskState.BLOCKED})


@dataclass(frozen=True)
class Listed:
    """The files of a run directory."""

    inputs: Times
    #: By task.
    outputs: Mapping[str, Times]
    errors: Mapping[str, Times]

    @property
    def stems(self) -> list[str]:
        """All stems that have an input, an output or an error, sorted."""
        found = set(self.inputs)
        return sorted(found.union(*self.outputs.values(), *self.errors.values()))


def judge(
    nodes: Sequence[N], is_done: Callable[[N], bool], has_error: Callable[[N], bool]
) -> dict[str, TaskState]:
    """Return how far each task is with a file.

    An output counts more than an error that stands beside it. An output that is not
    kept goes when all that depends on it is done: these speak for it then.

    Args:
        nodes: the tasks, each after the one it depends on.
        is_done: whether a task's output is there, and not older than the input.
        has_error: the same of its error; asked for what is not done.
    """
    states: dict[str, TaskState] = {}
    for node in nodes:
        if states.get(node.parent or "") in _WITHOUT_RESULT:
            states[node.name] = TaskState.BLOCKED
        elif is_done(node):
            states[node.name] = TaskState.PROCESSED
        elif has_error(node):
            states[node.name] = TaskState.FAILED
        else:
            states[node.name] = TaskState.WAITING
    _infer(nodes, states)
    return states


def _infer(nodes: Sequence[Node], states: dict[str, TaskState]) -> None:
    targets = {node.name for node in nodes if node.is_target}
    for node in reversed(nodes):
        parent, is_tried = node.parent, states[node.name] in _TRIED
        if parent is None or parent in targets or not is_tried:
            continue
        if states[parent] is TaskState.WAITING:
            states[parent] = TaskState.PROCESSED
    for node in nodes:
        ready = node.parent is None or states[node.parent] is TaskState.PROCESSED
        if ready and states[node.name] is TaskState.WAITING:
            states[node.name] = TaskState.STAGED


class Judge:
    """Tells how far the files of one listing are."""

    def __init__(self, plan: Plan, listed: Listed) -> None:
        """Judge by the tasks of `plan`."""
        self._targets = plan.targets
        self._nodes = [
            Node(task.name, task.depends_on, task.name in plan.targets)
            for task in plan.tasks
        ]
        self._listed = listed

    def tasks(self, stem: str) -> dict[str, TaskState]:
        """Return how far each task is with a file."""
        listed = self._listed
        since = listed.inputs.get(stem, 0)
        return judge(
            self._nodes,
            lambda node: listed.outputs[node.name].get(stem, -1) >= since,
            lambda node: listed.errors[node.name].get(stem, -1) >= since,
        )

    def file(self, states: Mapping[str, TaskState], *, in_hand: bool) -> FileState:
        """Join the states that a file has in the tasks."""
        found = states.values()
        if any(states[name] in UNDONE for name in self._targets):
            begun = in_hand or any(each in _TRIED for each in found)
            return FileState.IN_PROGRESS if begun else FileState.STAGED
        failed = TaskState.FAILED in found
        return FileState.ERRORED if failed else FileState.FINISHED
