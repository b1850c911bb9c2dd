"""How far each file of a run directory is, by the files that stand there. Pure.

The same judgement as `targets.Targets`, task by task: for those who look on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tigerflow.plan import Plan

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


_TRIED = frozenset({TaskState.PROCESSED, TaskState.FAILED})
_UNDONE = frozenset({TaskState.STAGED, TaskState.WAITING})
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


class Judge:
    """Tells how far the files of one listing are."""

    def __init__(self, plan: Plan, listed: Listed) -> None:
        """Judge by the tasks of `plan`."""
        self._targets = plan.targets
        self._tasks = [
            (task.name, task.depends_on or "", listed.outputs[task.name])
            for task in plan.tasks
        ]
        self._listed = listed

    def tasks(self, stem: str) -> dict[str, TaskState]:
        """Return how far each task is with a file.

        An output or an error counts if it is not older than the input. An output that
        is not kept goes when all that depends on it is done: these speak for it then.
        """
        since = self._listed.inputs.get(stem, 0)
        states: dict[str, TaskState] = {}
        for name, parent, outputs in self._tasks:
            if states.get(parent) in _WITHOUT_RESULT:
                states[name] = TaskState.BLOCKED
            elif outputs.get(stem, -1) >= since:
                states[name] = TaskState.PROCESSED
            elif self._listed.errors[name].get(stem, -1) >= since:
                states[name] = TaskState.FAILED
            else:
                states[name] = TaskState.WAITING
        self._infer(states)
        return states

    def file(self, states: Mapping[str, TaskState], *, in_hand: bool) -> FileState:
        """Join the states that a file has in the tasks."""
        found = states.values()
        if any(states[name] in _UNDONE for name in self._targets):
            begun = in_hand or any(each in _TRIED for each in found)
            return FileState.IN_PROGRESS if begun else FileState.STAGED
        failed = TaskState.FAILED in found
        return FileState.ERRORED if failed else FileState.FINISHED

    def _infer(self, states: dict[str, TaskState]) -> None:
        for name, parent, _ in reversed(self._tasks):
            waits = parent and states[parent] is TaskState.WAITING
            if waits and parent not in self._targets and states[name] in _TRIED:
                states[parent] = TaskState.PROCESSED
        for name, parent, _ in self._tasks:
            ready = not parent or states[parent] is TaskState.PROCESSED
            if ready and states[name] is TaskState.WAITING:
                states[name] = TaskState.STAGED
