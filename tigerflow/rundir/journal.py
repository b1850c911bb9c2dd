"""The journal of a run directory: what happened, one JSON object a line, append-only.

A crash loses at most the last, torn line, which `read` drops and the next `append`
starts behind. One process writes at a time (the one that holds the run's lock); any may
read meanwhile.

Each line has `event` and `at` (UTC, ISO 8601 with offset), and by event:

| event | further keys |
| --- | --- |
| `run_started` | `pid`, `host`, `version`, `python`, `snakemake`, and by task: \
`tasks` (its parent), `versions`, `kinds`, `modules`, `params` (as given), `defaults` \
(of the other params) |
| `staged` | `files`: names of input files; `signatures`: (size, mtime in ns) of each |
| `found` | as `staged`: files whose results were there already |
| `task_done`, `task_failed` | `task`, `file`, `started` (as `at`), `seconds`, \
`worker` |
| `file_done`, `file_failed` | `file`, `size`, `mtime_ns` of the input |
| `file_forgotten` | `file`: it is to be processed again |
| `worker` | `task`, `worker`, `state` (`launched`, `started` on the host `note`, \
`ready`, `ended`: `note` says how) |
| `task_stopped` | `task`, `reason`: it cannot run in this run |
| `run_stopped` | `reason`: `finished` of itself, or `stopped` |

`version` is TigerFlow's; `versions` has what changes with a task's code and params.
`worker` is a number, from 1 on for each task and run; 0: nobody knows. Readers leave
out what they do not know: a newer version may have written more.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from tigerflow.files import open_as_private, open_regular

Event = Mapping[str, Any]

KINDS = frozenset(
    {
        "run_started",
        "staged",
        "found",
        "task_done",
        "task_failed",
        "file_done",
        "file_failed",
        "file_forgotten",
        "worker",
        "task_stopped",
        "run_stopped",
    }
)


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

    def append(self, event: str, **fields: Any) -> None:
        """Append one event; it is in the file, if not on the disk, on return.

        What a full disk does not take is kept, and written as soon as there is room;
        `flush` tells whether it was.
        """
        line = json.dumps({"event": event, "at": now(), **fields}) + "\n"
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
            event = _event_of(line)
            if event is not None:
                yield event
            elif not line.isspace():
                left_out(line)


def _event_of(line: str) -> Event | None:
    try:
        event = _DECODER.decode(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or "event" not in event:
        return None
    for key, value in event.items():
        is_right = _FORMS.get(key)
        if is_right is not None and not is_right(value):
            return None
    return event


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    # Not NaN, which is in no range.
    return type(value) in {int, float} and -_LARGEST < value < _LARGEST  # type: ignore[operator] # a number


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_signatures(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, list) and all(map(_is_number, each)) for each in value
    )


#: More characters than any line has: 100,000 names at once make a tenth of that.
LINE_LIMIT = 1 << 26

#: More than any number of ours: 300 years in nanoseconds.
_LARGEST = 1e19

_DECODER = json.JSONDecoder(parse_constant=_refuse)

#: By key: whether a value has the form that it has in every event.
_FORMS: Mapping[str, Callable[[object], bool]] = {
    "at": _is_text,
    "started": _is_text,
    "host": _is_text,
    "python": _is_text,
    "snakemake": _is_text,
    "task": _is_text,
    "file": _is_text,
    "state": _is_text,
    "note": _is_text,
    "reason": _is_text,
    "pid": _is_number,
    "seconds": _is_number,
    "size": _is_number,
    "mtime_ns": _is_number,
    "worker": _is_number,
    "files": _are_texts,
    "signatures": _are_signatures,
    "tasks": _is_map,
    "versions": _is_map,
    "kinds": _is_map,
    "modules": _is_map,
    "params": _is_map,
    "defaults": _is_map,
}


def _is_torn(path: Path) -> bool:
    try:
        with open(path, "rb", opener=open_regular) as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        # There is none yet, or it is empty.
        return False
