"""What only the journal knows about earlier runs.

A fold over its events: from which content of an input the existing results were made,
and which of them a task made before its code or params changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field

from tigerflow.rundir.events import (
    Event,
    FileSettled,
    FilesTaken,
    RunStarted,
    TaskTried,
)


@dataclass
class History:
    """What a run needs to know about earlier runs."""

    #: Name of an input file -> (size in bytes, mtime in ns) when it was last staged:
    #: the results that exist now were made from that content.
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Task -> stems of the files that it last processed in another version.
    outdated: MutableMapping[str, set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )

    def outdated_tasks(self, stem: str) -> list[str]:
        """Return the tasks that have changed since they processed a file."""
        return [task for task, stems in self.outdated.items() if stem in stems]

    def forget(self, stem: str) -> None:
        """Stop treating a file's results as outdated."""
        for stems in self.outdated.values():
            stems.discard(stem)


def read_history(events: Iterable[Event], versions: Mapping[str, str]) -> History:
    """Fold a journal's events, given the version of each task as it is now.

    Results of unknown version count as current: those in a journal without versions,
    and those that plain Snakemake made.
    """
    found = History()
    before: Mapping[str, str] = {}
    for event in events:
        match event:
            case TaskTried(task=task, file=stem):
                if before.get(task, versions.get(task)) == versions.get(task):
                    found.outdated[task].discard(stem)
                else:
                    found.outdated[task].add(stem)
            case FileSettled(file=name, size=int(size), mtime_ns=int(mtime_ns)):
                found.taken[name] = (size, mtime_ns)
            case FilesTaken():
                # Also when a crash came before their end.
                pairs = ((size, mtime_ns) for size, mtime_ns in event.signatures)
                found.taken.update(zip(event.files, pairs, strict=False))
            case RunStarted():
                before = event.versions
            case _:
                pass
    return found
