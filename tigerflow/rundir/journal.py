"""The journal of a run directory: what happened, one JSON object a line, append-only.

A crash loses at most the last, torn line, which `read` drops and the next `append`
starts behind. One process writes at a time (the one that holds the run's lock); any may
read meanwhile.

`events` says what each line has.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from tigerflow.files import open_as_private, open_regular
from tigerflow.rundir.events import Event, event_of, values_of


def now() -> str:
    """Return the time as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Journal:
    """Appends events to a journal file."""

    def __init__(self, path: Path) -> None:
        """Append to `path`; it is opened on entering."""
        self._path = path

    def __enter__(self) -> Self:
        self._unwritten = b"\n" if _is_torn(self._path) else b""
        self._file = open(self._path, "ab", buffering=0, opener=open_as_private)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, event: Event) -> None:
        """Append one event, of now; it is in the file, if not on the disk, on return.

        What a full disk does not take is kept, and written as soon as there is room;
        `flush` tells whether it was.
        """
        line = json.dumps(values_of(replace(event, at=now()))) + "\n"
        self._unwritten += line.encode("ascii")
        self.flush()

    def flush(self) -> OSError | None:
        """Write what is still unwritten; return why it cannot be, or None."""
        try:
            while self._unwritten:
                # A disk that fills up takes a part.
                taken = self._file.write(self._unwritten)
                self._unwritten = self._unwritten[taken:]
        except OSError as error:
            return error
        return None


def read(
    path: Path, left_out: Callable[[str], None] = lambda _line: None
) -> Iterator[Event]:
    """Yield the events of a journal; none if there is no such file.

    Lines that are torn, by a crash or by being written just now, or that no TigerFlow
    has written so, are left out, and given to `left_out`.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = open_regular(str(path), os.O_RDONLY)
    except FileNotFoundError:
        return
    # As text, which json reads faster; what is no ASCII is no line of ours.
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as lines:
        while line := lines.readline(LINE_LIMIT):
            event = _decoded(line)
            if event is not None:
                yield event
            elif not line.isspace():
                left_out(line)


def _decoded(line: str) -> Event | None:
    try:
        values = _DECODER.decode(line)
    except (ValueError, RecursionError):
        return None
    return event_of(values) if isinstance(values, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


#: More characters than any line has: 100,000 names at once make a tenth of that.
LINE_LIMIT = 1 << 26

_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _is_torn(path: Path) -> bool:
    try:
        with open(path, "rb", opener=open_regular) as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        # There is none yet, or it is empty.
        return False
