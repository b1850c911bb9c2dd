"""How far a running service is at one moment, for the live display.

Cheap, however many files there are, because everything is counted already. To be taken
in the thread of the service's loop.
"""

from dataclasses import dataclass
from enum import StrEnum

from tigerflow.naming import stem_of
from tigerflow.service.loop import Loop
from tigerflow.workers.dispatch.host import Host
from tigerflow.workers.dispatch.pool import Load

#: At most this many failed files are named.
ERRORS_NAMED = 3


class Phase(StrEnum):
    """What the service is doing."""

    #: Not all files that were there at the start are known yet.
    SCANNING = "scanning"
    SERVING = "serving"
    #: It finishes the files in progress.
    STOPPING = "stopping"


@dataclass(frozen=True)
class TaskSnapshot:
    """One task; counts are of files."""

    name: str
    done: int = 0
    failed: int = 0
    running: int = 0
    #: Worker processes, those that set up included.
    workers: int = 0
    ready: int = 0
    busy: int = 0
    #: Whether it cannot run.
    is_stopped: bool = False


@dataclass(frozen=True)
class Snapshot:
    """All files and tasks."""

    phase: Phase
    known: int
    done: int
    failed: int
    #: Files that workers process.
    running: int
    #: Files that only wait for tasks that cannot run.
    held_up: int
    tasks: tuple[TaskSnapshot, ...]
    #: Why nothing can be stored, while that is so.
    trouble: str | None = None
    #: Where the first errors are; a file's name, if no task is to blame.
    errors: tuple[str, ...] = ()

    @property
    def settled(self) -> int:
        """How many files are done or failed."""
        return self.done + self.failed

    @property
    def to_do(self) -> int:
        """How many files can still be processed."""
        return max(0, self.known - self.settled - self.held_up)

    @property
    def queued(self) -> int:
        """How many of those no worker processes yet."""
        return max(0, self.to_do - self.running)


def take_snapshot(loop: Loop, host: Host) -> Snapshot:
    """Return how far it is now."""
    ledger, tally, loads = loop.ledger, loop.ledger.tally, host.loads
    running = {stem for load in loads.values() for stem in load.running}
    return Snapshot(
        phase=_phase(loop),
        known=ledger.known,
        done=tally.done,
        failed=tally.failed,
        running=len(running),
        held_up=len(ledger.stuck),
        tasks=tuple(
            _task(loop, name, loads.get(name, Load()), is_stopped=name in host.stuck)
            for name in loop.parts.plan.parents
        ),
        trouble=loop.storage.trouble,
        errors=tuple(_errors(loop)),
    )


def _phase(loop: Loop) -> Phase:
    if loop.is_stopping:
        return Phase.STOPPING
    return Phase.SERVING if loop.has_scanned else Phase.SCANNING


def _task(loop: Loop, name: str, load: Load, *, is_stopped: bool) -> TaskSnapshot:
    done, failed = loop.ledger.tally.of_task(name)
    return TaskSnapshot(
        name,
        done,
        failed,
        len(load.running),
        load.workers,
        load.ready,
        load.busy,
        is_stopped,
    )


def _errors(loop: Loop) -> list[str]:
    plan = loop.parts.plan
    return [
        name
        if task is None
        else str(plan.error_path(task, stem_of(name, plan.input_ext)))
        for name, task in loop.ledger.tally.first_failed(ERRORS_NAMED)
    ]
