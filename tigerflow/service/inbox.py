"""Notice files that have arrived in a directory, whole.

The scan is the truth; file system events only wake it up, and tell that a writer has
closed its file. So a lost event costs at most one scan interval, and a file system
without events works as well. A file has arrived when its writer closed it or moved it
in (event), or when its size and times are the same on two looks.

A scan in full asks for each file's state, which takes long where there are very many;
between two of these, quick ones only list the names and find the new ones.

One long module, because looks, scans and events share one clock and one lock: what has
arrived can only be read from all of them together.
"""

import contextlib
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver

from tigerflow.errors import InputDirectoryError
from tigerflow.log import logger
from tigerflow.naming import is_input_name, link_problem, printable
from tigerflow.rundir.signatures import Signature, signature_of
from tigerflow.service.mounts import MOUNTS, remembered_for_s

#: Between the two looks at a file that nobody was seen writing.
SETTLE_S = 0.15

#: The same, for a file that seems to be written still: by an event, by a change between
#: two looks, or, where no events come, by its date.
WRITING_SETTLE_S = 2.0

#: The same on a network file system, beyond the time for which this host may remember
#: how the file was: another host's writing shows up later, and not at each look.
REMOTE_S = 1.0

#: On a network file system, a file may be as old as this and still be written: clocks
#: of hosts differ.
CLOCK_SKEW_S = 60.0

#: A scan that takes t seconds is followed by a pause of at least this many times t.
SCAN_PAUSE_FACTOR = 20

#: The same for its processor time: it takes no more than this share of a core.
SCAN_CPU_SHARE = 1 / 300

#: How long nothing is looked for in a directory that cannot be read.
TROUBLE_PAUSE_S = 2.0

#: Files that are looked at together; no more than that are held in memory.
SCAN_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is there, whole."""

    name: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class _Look:
    signature: Signature
    at: float
    #: For how long it must stay so.
    settle_s: float


@dataclass
class _Scan:
    """A scan that is under way, and what it has cost so far."""

    entries: Iterator[Arrival]
    is_full: bool
    cost_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def pause_s(self) -> float:
        """How long it is until the next one of its kind."""
        return max(SCAN_PAUSE_FACTOR * self.cost_s, self.cpu_s / SCAN_CPU_SHARE)


class Inbox:
    """The arrivals in one directory; not recursive, regular files or links to them.

    Use it as a context manager: the watch is armed on entering, before the first scan.
    """

    def __init__(
        self,
        directory: Path,
        extension: str,
        wanted: Callable[[Iterable[Arrival]], Iterable[Arrival]],
        poll_interval_s: float,
        *,
        on_trouble: Callable[[InputDirectoryError | None], None] = lambda _: None,
        mounts: Path = MOUNTS,
    ) -> None:
        """Offer files that end in `extension` and that `wanted` lets pass.

        `wanted` sees every such file at each scan, and leaves out those that are done
        or in progress; so the inbox itself remembers only files that are arriving.
        `on_trouble` gets, in the thread that asks for a batch, why the directory cannot
        be read, and None when it can be again.
        """
        self._mounts = mounts
        #: Names that were reported: links that lead nowhere.
        self._bad_links: set[str] = set()
        self._directory = directory
        self._extension = extension
        self._wanted = wanted
        self._poll_interval_s = poll_interval_s
        self._wake = threading.Condition()
        self._closed: set[str] = set()
        self._writing: dict[str, float] = {}
        self._looks: dict[str, _Look] = {}
        self._next_scan = 0.0
        self._next_full_scan = 0.0
        self._scanning: _Scan | None = None
        #: What was there at the last scan.
        self._names: set[str] = set()
        #: Whether all that was there at the start has been seen.
        self.first_scan_is_over = False
        self._stopped = False
        self._on_trouble = on_trouble
        self._trouble: InputDirectoryError | None = None
        self._observer: InotifyObserver | None = None
        #: Whether other hosts may change files behind this one's back.
        self._is_remote = False
        self._writing_settle_s = WRITING_SETTLE_S

    def __enter__(self) -> Self:
        self._arm()
        return self

    def _arm(self) -> None:
        """Watch for events, where they tell of all changes."""
        remembered_s = remembered_for_s(self._directory, self._mounts)
        self._is_remote = remembered_s is not None
        if remembered_s is not None:
            self._writing_settle_s = remembered_s + REMOTE_S
            return
        # It complains on stderr of being stopped while it reads.
        logging.getLogger("watchdog").addHandler(logging.NullHandler())
        try:
            # Full events: they tell a file that is moved in from one being created.
            observer = InotifyObserver(generate_full_events=True)
            observer.schedule(_Handler(self._note), str(self._directory))
            observer.start()
        except (OSError, RuntimeError) as error:
            # Out of inotify watches, instances or threads: the scans are enough.
            logger.debug("No file system events: {}", error)
        else:
            self._observer = observer

    def _disarm(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._disarm()

    def stop(self) -> None:
        """End a waiting `batch` and make all later ones None; from any thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    def scan_now(self) -> None:
        """Make the next `batch` start with a scan in full; from any thread."""
        with self._wake:
            self._next_scan = self._next_full_scan = 0.0
            self._wake.notify_all()

    def batch(self, *, wait: bool = True) -> list[Arrival] | None:
        """Return the files that have arrived, sorted by name; None after `stop`.

        Waits until there is at least one, or, without `wait`, until every file that is
        there now has arrived, which may be none. A directory that is gone or cannot
        be listed is waited for, too: it may come back.
        """
        while not self._stopped:
            arrived = self._look() or self._scan_on()
            is_over = not (self._looks or self._scanning or self._trouble)
            if arrived or (not wait and is_over):
                return sorted(arrived, key=lambda arrival: arrival.name)
            self._sleep()
        return None

    def _look(self) -> list[Arrival]:
        """Look again at the files that are arriving, and at those that were closed."""
        now = time.monotonic()
        with self._wake:
            closed, self._closed = self._closed, set()
        names = [*closed, *(name for name in self._looks if name not in closed)]
        entries = list(self._wanted(self._stat(names, self._ask)))
        for name in self._looks.keys() - {entry.name for entry in entries}:
            # It is done, in progress, or gone.
            del self._looks[name]
        arrived = [e for e in entries if self._has_arrived(e, closed, now)]
        for entry in arrived:
            self._looks.pop(entry.name, None)
            self._writing.pop(entry.name, None)
        return arrived

    def _scan_on(self) -> list[Arrival]:
        """Take a first look at the next files of a scan, when one is due."""
        now, cpu_s = time.monotonic(), time.thread_time()
        scan = self._scanning = self._scanning or self._begin_scan(now)
        if scan is None:
            return []
        room = SCAN_CHUNK - len(self._looks)
        arrived = [
            entry
            for entry in itertools.islice(scan.entries, room)
            if self._has_arrived(entry, set(), now)
        ]
        scan.cost_s += time.monotonic() - now
        scan.cpu_s += time.thread_time() - cpu_s
        if len(self._looks) < SCAN_CHUNK:
            self._end_scan(scan)
        return arrived

    def _begin_scan(self, now: float) -> _Scan | None:
        with self._wake:
            if now < self._next_scan:
                return None
            is_full = now >= self._next_full_scan
            self._next_scan = now + self._poll_interval_s
            if is_full:
                self._next_full_scan = self._next_scan
        names = self._list_names()
        if names is None:
            with self._wake:
                self._next_scan = min(self._next_scan, now + TROUBLE_PAUSE_S)
                self._next_full_scan = 0.0
            return None
        entries = self._stat(names if is_full else names - self._names)
        self._names = names
        return _Scan(iter(self._wanted(entries)), is_full)

    def _end_scan(self, scan: _Scan) -> None:
        self._scanning = None
        self.first_scan_is_over = True
        self._forget_old_writing()
        until = time.monotonic() + scan.pause_s
        with self._wake:
            if not self._next_scan:
                # One has been asked for.
                return
            if scan.is_full:
                self._next_full_scan = max(self._next_full_scan, until)
            else:
                self._next_scan = max(self._next_scan, until)

    def _has_arrived(self, entry: Arrival, closed: set[str], now: float) -> bool:
        # All files of one pass have the same time: they settle, and go, together.
        if entry.name in closed:
            return True
        look = self._looks.get(entry.name)
        if look is None or look.signature != entry.signature:
            is_new = look is None
            settle_s = self._settle_s(entry) if is_new else self._writing_settle_s
            self._looks[entry.name] = _Look(entry.signature, now, settle_s)
            return False
        return now - look.at >= self._needed_s(entry.name, look)

    def _settle_s(self, entry: Arrival) -> float:
        """Return how long a file must stay as it is now, seen for the first time."""
        if self._observer is not None:
            return SETTLE_S
        age_s = time.time() - entry.signature[2] / 1e9
        if self._is_remote:
            return SETTLE_S if age_s > CLOCK_SKEW_S else self._writing_settle_s
        return min(max(SETTLE_S, WRITING_SETTLE_S - age_s), WRITING_SETTLE_S)

    def _needed_s(self, name: str, look: _Look) -> float:
        return self._writing_settle_s if name in self._writing else look.settle_s

    def _sleep(self) -> None:
        """Wait for an event, the next look or the next scan, whichever comes first."""
        now = time.monotonic()
        until = self._next_scan
        for name, look in self._looks.items():
            at = look.at + self._needed_s(name, look)
            until = min(until, max(at, now + SETTLE_S))
        with self._wake:
            if not self._closed and not self._stopped and self._next_scan > now:
                self._wake.wait(max(until - now, 0.001))

    def _list_names(self) -> set[str] | None:
        try:
            names = os.listdir(self._directory)  # noqa: PTH208 -- thousands
            # They may be seen where the directory itself may not be entered.
            os.stat(f"{self._directory}/.")  # noqa: PTH116 -- keeps the dot
        except OSError as error:
            trouble = InputDirectoryError(self._directory, error)
            if str(trouble) != str(self._trouble):
                self._trouble = trouble
                self._on_trouble(trouble)
            return None
        if self._trouble is not None:
            # It may be another directory of that name now.
            self._disarm()
            self._arm()
            self._trouble = None
            self._on_trouble(None)
        return {name for name in names if is_input_name(name, self._extension)}

    def _ask(self, path: str) -> os.stat_result:
        """Return the state of a file, as its server has it: by opening it, see nfs(5).

        Only for the few that are arriving: it takes a question to the server for each.
        """
        if self._is_remote:
            # One that is not ours to read fails later, with its reason.
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    return os.fstat(descriptor)
                finally:
                    os.close(descriptor)
        return os.stat(path)  # noqa: PTH116 -- thousands

    def _stat(
        self,
        names: Iterable[str],
        look: Callable[[str], os.stat_result] = os.stat,
    ) -> Iterator[Arrival]:
        for name in names:
            try:
                status = look(f"{self._directory}/{name}")
                if stat.S_ISREG(status.st_mode):
                    yield Arrival(name, signature_of(status))
                    continue
            except OSError as error:
                self._see_bad_link(name, error)
            self._writing.pop(name, None)

    def _see_bad_link(self, name: str, error: OSError) -> None:
        """Name a link that is wrong, once."""
        problem = link_problem(error)
        if problem is not None and name not in self._bad_links:
            self._bad_links.add(name)
            logger.warning("Skipping {}: {}", printable(name), problem)

    def _forget_old_writing(self) -> None:
        # A done file that is touched would be remembered forever.
        old = time.monotonic() - self._writing_settle_s
        with self._wake:
            for name in self._writing.keys() - self._looks.keys():
                if self._writing[name] < old:
                    del self._writing[name]

    def _note(self, name: str, *, closed: bool) -> None:
        if not is_input_name(name, self._extension):
            return
        with self._wake:
            if closed:
                self._closed.add(name)
                self._writing.pop(name, None)
                self._wake.notify_all()
            else:
                self._writing[name] = time.monotonic()


class _Handler(FileSystemEventHandler):
    """Runs in watchdog's thread: notes names and nothing else."""

    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.is_directory:
            return
        match event.event_type:
            case "closed":
                self._note(_name(event.src_path), closed=True)
            case "moved":
                self._note(_name(event.dest_path), closed=True)
            case "created":
                # A link is there at once; anything else is closed by its writer.
                is_link = Path(os.fsdecode(event.src_path)).is_symlink()
                self._note(_name(event.src_path), closed=is_link)
            case "modified":
                self._note(_name(event.src_path), closed=False)
            case _:
                # Being opened or read says nothing about arrival.
                pass


def _name(path: str | bytes) -> str:
    return os.path.basename(os.fsdecode(path))  # noqa: PTH119 -- any bytes
