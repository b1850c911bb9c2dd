"""Failures of a run, grouped by what went wrong."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tigerflow.report.run_report import ErrorText, TaskReport

#: As many files of a group are named.
NAMED = 5


@dataclass
class FailureGroup:
    """The files that one task failed on with one kind of exception."""

    task: str
    exception_type: str
    count: int = 0
    #: The first ones.
    files: list[str] = field(default_factory=list)
    #: The first lines of messages, by how often they came.
    messages: Counter[str] = field(default_factory=Counter)
    #: The first with a traceback, else the first.
    example: ErrorText | None = None

    def add(self, text: ErrorText) -> None:
        """Count one."""
        self.count += 1
        if len(self.files) < NAMED:
            self.files.append(text.file)
        self.messages[text.message.strip().partition("\n")[0]] += 1
        if self.example is None or (text.traceback and not self.example.traceback):
            self.example = text

    @property
    def message(self) -> str:
        """The message that most have; of equals, the first."""
        return self.messages.most_common(1)[0][0] if self.messages else ""


def group_failures(tasks: Iterable[TaskReport]) -> list[FailureGroup]:
    """Read all `.err` files of a report; return groups, the largest first."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    for task in tasks:
        for failure in task.failures:
            text = failure.read()
            kind = text.exception_type or "Unknown error"
            key = (task.name, kind)
            groups.setdefault(key, FailureGroup(*key)).add(text)
    return sorted(groups.values(), key=lambda group: -group.count)
