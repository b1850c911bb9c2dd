"""Which files a service knows, and the state of each: kept here, and moved only here.

A file is *waiting* until the staging steps let it go, *staged* until it is *done* or
*failed*, or *gone*: known no more. Each move is one method of the ledger, which counts
the file by task (`tally`) and records it in the journal:

    arrive   new, or changed since it was settled    -> waiting
    find     settled by an earlier run               -> done, failed
    refuse   a name that Snakemake cannot carry      -> failed
    stage    waiting -> staged
    judge    staged -> done, failed; or still staged, when something is left to do
    fail     staged -> failed, without a word from any task
    lose     staged -> gone
    retry    failed -> waiting; gone, if its input is

A staged file is *ready* for a window, *held* until a task takes more files, in a
window, *doubtful* (its window broke, and perhaps none can run), or *stuck*: it only
waits for tasks that cannot run.

One long module, so that no state of a file is changed anywhere else.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tigerflow.naming import stem_of
from tigerflow.rundir.events import (
    FileDone,
    FileFailed,
    FileForgotten,
    FilesFound,
    FilesStaged,
)
from tigerflow.rundir.journal import Journal
from tigerflow.rundir.judgement import Judgement, Status
from tigerflow.rundir.plan import Plan
from tigerflow.service.inbox import Arrival
from tigerflow.service.tally import Tally


@dataclass(eq=False, slots=True)
class StagedFile:
    """A file on its way."""

    arrival: Arrival
    stem: str
    #: Its place in the order of staging.
    place: int
    #: How often its window ended without a word on it.
    attempts: int = 0
    #: The tasks whose outputs its window was asked for.
    asked: tuple[str, ...] = ()
    #: Whether its results are known to be of this content.
    proven: bool = False
    #: Whether a result could not be stored since its window began.
    is_blocked: bool = False


@dataclass(frozen=True)
class Found:
    """A file that an earlier run has settled."""

    arrival: Arrival
    judgement: Judgement
    #: Whether the journal has another signature of it, or none.
    is_unrecorded: bool


@dataclass(frozen=True)
class Counts:
    """How many files are in each state."""

    waiting: int = 0
    staged: int = 0
    done: int = 0
    failed: int = 0


class Ledger:
    """The state of each file, by name.

    Only the event loop's thread writes it; the inbox's thread asks `unknown`.
    """

    def __init__(self, plan: Plan, journal: Journal) -> None:
        """Start with no file known."""
        self._input_ext = plan.input_ext
        self._journal = journal
        self.tally = Tally(plan.parents)
        self.waiting: dict[str, Arrival] = {}
        self.staged: dict[str, StagedFile] = {}
        self.settled: dict[str, tuple[Arrival, Status]] = {}
        self.failed = 0
        #: How many files earlier runs have settled, by what became of them.
        self.found: Counter[Status] = Counter()
        #: Staged files that only wait for tasks that cannot run.
        self.stuck: set[str] = set()
        self._ready: deque[StagedFile] = deque()
        #: By task: files of which nothing can be made before it takes more files.
        self._held: dict[str, deque[StagedFile]] = {}
        self._doubtful: list[StagedFile] = []
        #: How many files have been staged.
        self._places = 0

    # Questions

    def unknown(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Leave out files that are staged, or waiting or settled and unchanged."""
        for arrival in arrivals:
            if arrival.name in self.staged or self.waiting.get(arrival.name) == arrival:
                continue
            settled = self.settled.get(arrival.name)
            # Not by the inode: there are file systems on which that does not stay.
            if settled is None or settled[0].signature[1:] != arrival.signature[1:]:
                yield arrival

    def counts(self) -> Counts:
        """Count the files by state; those that are stuck are in none."""
        done = len(self.settled) - self.failed
        staged = len(self.staged) - len(self.stuck)
        return Counts(len(self.waiting), staged, done, self.failed)

    @property
    def known(self) -> int:
        """How many files are known."""
        return len(self.waiting) + len(self.staged) + len(self.settled)

    @property
    def has_work(self) -> bool:
        """Whether staged files wait for a window, or for the end of a doubt."""
        return bool(self._ready or self._held or self._doubtful)

    @property
    def ready(self) -> int:
        """How many files are ready for a window."""
        return len(self._ready)

    @property
    def is_in_doubt(self) -> bool:
        """Whether windows broke, and nobody knows yet whether any can run."""
        return bool(self._doubtful)

    def failures(self) -> list[Arrival]:
        """Return the files that failed."""
        return [
            arrival
            for arrival, status in self.settled.values()
            if status is Status.FAILED
        ]

    def place(self, stem: str) -> int:
        """Return the place of a file in the order of staging."""
        staged = self.staged.get(stem + self._input_ext)
        return self._places if staged is None else staged.place

    # Moves between states

    def arrive(self, arrival: Arrival, done: Collection[str] = ()) -> None:
        """Have a file wait that is new, or changed since it was settled.

        `done` are the tasks that have made their part of it already.
        """
        self._forget(arrival.name)
        self.waiting[arrival.name] = arrival
        self.tally.judge(arrival.name, done, ())

    def find(self, files: Sequence[Found]) -> list[Arrival]:
        """Take over files that an earlier run has settled.

        Return those of which the journal did not have the signature.
        """
        for each in files:
            status = each.judgement.status
            self.found[status] += 1
            self._settle(each.arrival, status)
            self._count(each.arrival.name, each.judgement)
        unrecorded = [each.arrival for each in files if each.is_unrecorded]
        if unrecorded:
            self._record(FilesFound, unrecorded)
        return unrecorded

    def refuse(self, arrival: Arrival) -> None:
        """Give a file up that no task will see."""
        self._settle(arrival, Status.FAILED)
        self.tally.refuse(arrival.name)

    def stage(
        self, arrivals: Collection[Arrival], is_proven: Callable[[Arrival], bool]
    ) -> None:
        """Have waiting files be processed.

        `is_proven` tells whether results of a file are known to be of its content.
        """
        for arrival in arrivals:
            del self.waiting[arrival.name]
            self._places += 1
            stem = stem_of(arrival.name, self._input_ext)
            file = StagedFile(arrival, stem, self._places, proven=is_proven(arrival))
            self.staged[arrival.name] = file
            self._ready.append(file)
        self._record(FilesStaged, arrivals)

    def judge(self, file: StagedFile, found: Judgement) -> Status:
        """Count what is made of a staged file; settle it if nothing is left to do."""
        self._count(file.arrival.name, found)
        if found.status is not Status.UNDONE:
            self._end(file, found.status)
        return found.status

    def fail(self, file: StagedFile, task: str) -> None:
        """Settle a staged file that has neither a result nor an error of any task.

        `task` is the one that has an `.err` for it now.
        """
        self.tally.note(file.arrival.name, task, succeeded=False)
        self._end(file, Status.FAILED)

    def lose(self, file: StagedFile) -> None:
        """Forget a staged file whose input is gone; it may come back as a new one."""
        self._forget(file.arrival.name)
        self.tally.forget(file.arrival.name)

    def retry(self, arrival: Arrival, found: Judgement, *, has_input: bool) -> None:
        """Have a failed file wait again if it is no longer failed, as `found` says.

        Without its input, it is gone.
        """
        self._count(arrival.name, found)
        if found.status is Status.FAILED:
            return
        self._forget(arrival.name)
        self._journal.append(FileForgotten(file=arrival.name))
        if has_input:
            self.waiting[arrival.name] = arrival
        else:
            self.tally.forget(arrival.name)

    # Among the staged files

    def take_ready(self) -> StagedFile:
        """Take the first file that is ready, for a window."""
        return self._ready.popleft()

    def put_back(self, files: Iterable[StagedFile]) -> None:
        """Have files be ready again, after all others."""
        self._ready.extend(files)

    def put_first(self, files: Sequence[StagedFile]) -> None:
        """Have files be ready again, before all others."""
        self._ready.extendleft(reversed(files))

    def hold(self, file: StagedFile, task: str) -> None:
        """Keep a file of which nothing can be made before `task` takes more files."""
        self._held.setdefault(task, deque()).append(file)

    def release(self, crowded: Collection[str], limit: int) -> None:
        """Have files be ready that were held for tasks which are not `crowded` now.

        At most `limit` per task.
        """
        for task in self._held.keys() - set(crowded):
            held = self._held[task]
            self.put_first([held.popleft() for _ in range(min(limit, len(held)))])
            if not held:
                del self._held[task]

    def doubt(self, file: StagedFile) -> None:
        """Keep a file of a window that broke until it is known whether any can run."""
        self._doubtful.append(file)

    def take_doubtful(self) -> list[StagedFile]:
        """Take the files that are in doubt."""
        doubtful, self._doubtful = self._doubtful, []
        return doubtful

    def strand(self, file: StagedFile) -> None:
        """Leave a file that only waits for tasks that cannot run."""
        self.stuck.add(file.arrival.name)

    # What happens to a staged file

    def note(self, stem: str, task: str, *, succeeded: bool) -> None:
        """Count what a task has made of a file, long before its window may end."""
        name = stem + self._input_ext
        if name in self.staged:
            self.tally.note(name, task, succeeded=succeeded)

    def block(self, stem: str) -> None:
        """Note that a file's result could not be stored: it is not to blame."""
        if file := self.staged.get(stem + self._input_ext):
            file.is_blocked = True

    # Each state in one place

    def _count(self, name: str, found: Judgement) -> None:
        self.tally.judge(name, found.done, found.failed)

    def _end(self, file: StagedFile, status: Status) -> None:
        _, size, mtime_ns = file.arrival.signature
        event = FileDone if status is Status.DONE else FileFailed
        name = file.arrival.name
        self._journal.append(event(file=name, size=size, mtime_ns=mtime_ns))
        self._settle(file.arrival, status)

    def _settle(self, arrival: Arrival, status: Status) -> None:
        self._forget(arrival.name)
        self.settled[arrival.name] = (arrival, status)
        self.failed += status is Status.FAILED

    def _forget(self, name: str) -> None:
        self.waiting.pop(name, None)
        self.staged.pop(name, None)
        self.stuck.discard(name)
        previous = self.settled.pop(name, None)
        self.failed -= previous is not None and previous[1] is Status.FAILED

    def _record(
        self, event: type[FilesFound | FilesStaged], arrivals: Collection[Arrival]
    ) -> None:
        """Record of which content the results of files are, or will be."""
        self._journal.append(
            event(
                files=[each.name for each in arrivals],
                signatures=[each.signature[1:] for each in arrivals],
            )
        )
