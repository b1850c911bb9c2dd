"""Find files that a run leaves beside its temporary output, with a similar name.

Libraries may append a suffix to the path that they get, and tasks may replace it.
Listing the directory after each file would take longer with every result in it, so the
kernel reports the names that appear there (inotify).
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tigerflow.naming import temporary_root

# From inotify(7): a name is made in a directory, or moved into it.
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_Q_OVERFLOW = 0x4000
_IN_ONLYDIR = 0x1000000

#: Watch, mask and cookie of an event, and the size of its name, which follows.
_EVENT = struct.Struct("iIII")


@dataclass
class _Seen:
    """What is known about one run."""

    #: Names that have appeared and belong to the run.
    names: set[str] = field(default_factory=set)
    #: Whether names may have been missed.
    is_unsure: bool = False


class Strays:
    """Finds what the runs of this process leave behind; for use in one thread."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._new_names: _NewNames | None = None
        #: Each run is here twice: by the root of its temporary's name, and by the name
        #: of its output, which the run may write to by mistake.
        self._runs: dict[str, _Seen] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._new_names is not None:
            self._new_names.close()

    def expect(self, temporary: Path, output: Path) -> None:
        """Watch for files of a run that should only write to `temporary`."""
        seen = _Seen()
        self._runs[_root(temporary)] = self._runs[output.name] = seen
        try:
            if self._new_names is None:
                self._new_names = _NewNames()
            # Watched again for each file, since the directory may have been replaced.
            self._new_names.watch(temporary.parent)
        except OSError:
            # Other programs may have used up the kernel's limits.
            seen.is_unsure = True

    def left_by(self, temporary: Path) -> list[Path]:
        """Return the existing files that a run has left, except `temporary`.

        If names may have been missed, this lists the directory, but only when the
        temporary is empty: then the result may be in another file.
        """
        self._take_names()
        seen = self._runs[_root(temporary)]
        if seen.is_unsure and _is_empty(temporary):
            seen.names.update(_listed(temporary))
        places = (temporary.with_name(name) for name in seen.names - {temporary.name})
        return sorted(place for place in places if os.path.lexists(place))

    def forget(self, temporary: Path, output: Path) -> None:
        """Stop watching for a run's files."""
        self._runs.pop(_root(temporary), None)
        self._runs.pop(output.name, None)

    def _take_names(self) -> None:
        if self._new_names is None:
            return
        try:
            for name, was_moved in self._new_names.read():
                root = temporary_root(name)
                if root is None and was_moved:
                    # The output of another worker, which was assumed to be lost.
                    continue
                if seen := self._runs.get(root or name):
                    seen.names.add(name)
        except OSError:
            # Too many at once, or the task has closed our descriptor.
            for seen in self._runs.values():
                seen.is_unsure = True


def _root(temporary: Path) -> str:
    return temporary_root(temporary.name) or temporary.name


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        # It is gone, so only another file can be the result.
        return True


def _listed(temporary: Path) -> Iterator[str]:
    try:
        with os.scandir(temporary.parent) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return
    for name in names:
        if temporary_root(name) == _root(temporary):
            yield name


class _NewNames:
    """Names that appear in directories, reported by the kernel."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        self._status = os.fstat(self._descriptor)

    def watch(self, directory: Path) -> None:
        """Report names in a directory, too; it may be watched already."""
        mask = _IN_CREATE | _IN_MOVED_TO | _IN_ONLYDIR
        self._call("inotify_add_watch", self._descriptor, os.fsencode(directory), mask)

    def read(self) -> Iterator[tuple[str, bool]]:
        """Yield names that have appeared since the last call, and whether by a move.

        Raises:
            OSError: names have been missed.
        """
        if not self._is_open():
            msg = "the task has closed it"
            raise OSError(msg)
        while True:
            try:
                events = os.read(self._descriptor, 2**16)
            except BlockingIOError:
                return
            start = 0
            while start < len(events):
                _, mask, _, size = _EVENT.unpack_from(events, start)
                if mask & _IN_Q_OVERFLOW:
                    msg = "more names have appeared than were read"
                    raise OSError(msg)
                start += _EVENT.size + size
                name = os.fsdecode(events[start - size : start].rstrip(b"\0"))
                yield name, bool(mask & _IN_MOVED_TO)

    def close(self) -> None:
        if self._is_open():
            os.close(self._descriptor)

    def _is_open(self) -> bool:
        """Tell whether the descriptor is still ours: a task may have closed it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._status)
        except OSError:
            return False

    def _call(self, function: str, *arguments: Any) -> int:
        result: int = getattr(self._libc, function)(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
