"""Remember the size and date that each input had when it was processed.

So a changed input is processed again. For the command line of a single task, which
keeps no journal. One line per entry, a JSON list of name, size and mtime in ns; append-
only, and the last line of a name counts. An entry is written before its file is
processed, and after results of another content have been marked as old: so a crash
between any two steps leaves no result that passes for one of another content.

Programs that share the file append to it at the same time, under a shared lock; who
finds most lines out of date rewrites it, alone.
"""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from tigerflow.files import open_regular, write_atomic
from tigerflow.log import logger

#: What tells one state of a file from another: (inode, size, mtime in ns).
Signature = tuple[int, int, int]

#: Size and mtime in ns.
Entry = tuple[int, int]

#: So many lines that are out of date are left as they are.
FEW_LINES = 1000


def signature_of(status: os.stat_result) -> Signature:
    """Return what changes when a file is written, replaced or touched."""
    return status.st_ino, status.st_size, status.st_mtime_ns


class Signatures:
    """The entries of one file, in memory and on disk."""

    def __init__(self, path: Path) -> None:
        """Keep them in `path`, which is read with the first question."""
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] | None = None
        self._unwritten = b""
        self._has_complained = False

    def get(self, name: str) -> Entry | None:
        """Return the entry of an input; None: nothing is known."""
        with self._lock:
            return self._known().get(name)

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Note entries; what cannot be written now is tried with the next ones."""
        with self._lock:
            known = self._known()
            new = {n: e for n, e in entries.items() if known.get(n) != e}
            known.update(new)
            self._unwritten += _lines(new)
            if not new:
                return
            try:
                with _locked(self._path, fcntl.LOCK_SH) as file:
                    self._write(file)
            except OSError as error:
                self._complain(error)

    def _known(self) -> dict[str, Entry]:
        if self._entries is None:
            self._entries, count = _read(self._path)
            if count > 2 * len(self._entries) + FEW_LINES:
                self._compact()
        return self._entries

    def _compact(self) -> None:
        # Where there are no locks, or no room, it stays as it is.
        with (
            contextlib.suppress(OSError),
            _locked(self._path, fcntl.LOCK_EX, needs_lock=True),
        ):
            self._entries, _ = _read(self._path)
            write_atomic(self._path, _lines(self._entries).decode())

    def _write(self, file: IO[bytes]) -> None:
        while self._unwritten:
            size = file.seek(0, os.SEEK_END)
            is_torn = size and os.pread(file.fileno(), 1, size - 1) != b"\n"
            text = (b"\n" if is_torn else b"") + self._unwritten
            # A disk that fills up takes a part: a line that it tears, as a crash does,
            # is written again.
            taken = file.write(text)
            self._unwritten = text[text.rfind(b"\n", 0, taken) + 1 :]

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            self._has_complained = True
            logger.warning(
                "Cannot write {}: {}; at the next start, an input that was replaced by "
                "a version with an older date may count as done",
                self._path,
                error.strerror or error,
            )


@contextlib.contextmanager
def _locked(path: Path, how: int, *, needs_lock: bool = False) -> Iterator[IO[bytes]]:
    """Open the file that the name stands for, also while another program replaces it.

    Raises:
        OSError: it cannot be opened, or, with `needs_lock`, be locked.
    """
    path.parent.mkdir(exist_ok=True)
    while True:
        with open(path, "ab+", buffering=0, opener=open_regular) as file:
            try:
                fcntl.flock(file, how)
            except OSError:
                if needs_lock:
                    raise
            if not _is_at(path, file):
                continue
            try:
                yield file
            finally:
                # Not by closing: a child that a task has forked meanwhile has it, too.
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)
            return


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _lines(entries: Mapping[str, Entry]) -> bytes:
    return "".join(f"{json.dumps([n, *e])}\n" for n, e in entries.items()).encode()


def _read(path: Path) -> tuple[dict[str, Entry], int]:
    """Return the entries of a file, and of how many lines they are."""
    entries: dict[str, Entry] = {}
    count = 0
    with contextlib.suppress(OSError), open(path, "rb", opener=open_regular) as file:
        for line in file:
            count += 1
            # One that is torn was of a file that was not yet processed.
            with contextlib.suppress(ValueError, RecursionError):
                match json.loads(line):
                    case [str(name), int(size), int(mtime_ns)]:
                        entries[name] = size, mtime_ns
                    case _:
                        pass
    return entries, count
