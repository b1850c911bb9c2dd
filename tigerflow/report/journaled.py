"""What the journal adds to what the file system says about a run.

How long each task took for each file, which files a service has in progress, and which
tasks cannot run. A journal that is torn, missing, or written by a newer TigerFlow takes
away only that; `read_journal` returns a sentence about each such loss.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tigerflow import __version__
from tigerflow.report.run_report import Timing
from tigerflow.rundir.events import (
    Event,
    FileForgotten,
    FileSettled,
    FilesStaged,
    RunStarted,
    TaskDone,
    TaskStopped,
    TaskTried,
    UnknownEvent,
)
from tigerflow.rundir.journal import read

#: Characters of a version that are shown.
VERSION_LIMIT = 40


@dataclass
class Journaled:
    """What a journal adds to the file system."""

    #: Task -> stem -> the last try, the latest last.
    timings: dict[str, dict[str, Timing]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    #: Names of the files that the last service took and has not settled.
    in_hand: set[str] = field(default_factory=set)
    #: Task -> why it could not run in the last run.
    stopped: dict[str, str] = field(default_factory=dict)
    #: Of the TigerFlow that wrote last; "" if unknown.
    version: str = ""
    #: How many events are of kinds that only others know.
    unknown: int = 0


def read_journal(
    path: Path, witness: Callable[[Event], None], *, is_written: bool
) -> tuple[Journaled, tuple[str, ...]]:
    """Return what a journal comes to, and sentences on what it lacks."""
    found = Journaled()
    torn: list[str] = []
    notes: list[str] = []
    try:
        events = seen_by(witness, read(path, torn.append))
        digest(events, found)
    except OSError as error:
        reason = error.strerror or str(error)
        notes.append(f"The journal cannot be read ({reason}), so no times are shown.")
    if is_written and torn and not torn[-1].endswith("\n"):
        # It is being written just now.
        torn.pop()
    if torn:
        lines = "1 line" if len(torn) == 1 else f"{len(torn)} lines"
        notes.append(f"The journal has {lines} that cannot be read; left out here.")
    if (newer := found.version) and is_newer(newer):
        notes.append(
            f"TigerFlow {newer} made this run, and this is {__version__}: what only "
            "the newer version knows is not shown."
        )
    elif found.unknown:
        notes.append(
            f"The journal has {found.unknown} entries that this TigerFlow "
            f"({__version__}) does not know; left out here. A newer version probably "
            "wrote them: update this one."
        )
    return found, tuple(notes)


def is_newer(version: str) -> bool:
    """Tell whether a version is later than this one, by its leading numbers."""
    this, other = (
        [int(number) for number in re.findall(r"\d{1,9}", text)[:3]]
        for text in (__version__, version)
    )
    return other > this


def seen_by(
    witness: Callable[[Event], None], events: Iterable[Event]
) -> Iterator[Event]:
    """Yield the events, each after `witness` has seen it."""
    for event in events:
        witness(event)
        yield event


def digest(events: Iterable[Event], found: Journaled | None = None) -> Journaled:
    """Return what a journal's events come to; those of other forms are left out.

    They are added to `found`, so that what was read before an error counts.
    """
    found = found or Journaled()
    for event in events:
        match event:
            case TaskTried(task=task, file=stem, seconds=float() | int() as seconds):
                # At the end, also when it was tried before.
                found.timings[task].pop(stem, None)
                started = event.started or event.at
                succeeded = isinstance(event, TaskDone)
                found.timings[task][stem] = Timing(started, seconds, succeeded)
            case FileSettled(file=name) | FileForgotten(file=name):
                found.in_hand.discard(name)
            case FilesStaged():
                found.in_hand.update(event.files)
            case TaskStopped():
                found.stopped[event.task] = event.reason
            case RunStarted():
                found.in_hand.clear()
                found.stopped.clear()
                found.version = str(event.version)[:VERSION_LIMIT]
            case UnknownEvent():
                found.unknown += 1
            case _:
                pass
    return found
