"""The journal of a run directory: what happened, one JSON object a line, append-only.

A crash loses at most the last, torn line, which `read` drops and the next `append`
starts behind. One process writes at a time (the one that holds the run's lock); any may
read meanwhile.

Each line has `event` and `at` (UTC, ISO 8601 with offset), and by event:

| event | further keys |
| --- | --- |
| `run_started` | `pid`, `host`, `version`, `python`, `snakemake`, and by task: \
`tasks` (its parent), `versions`, `kinds`, `modules`, `params` |
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
from typing import Any, Self

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
        self._file = self._path.open("ab", buffering=0)
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

    Lines that are torn, by a crash or by being written just now, are left out, and
    given to `left_out`.

    Raises:
        OSError: it cannot be read.
    """
    try:
        # As text, which json reads faster; what is no ASCII is no line of ours.
        lines = path.open(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return
    with lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if isinstance(event, dict) and "event" in event:
                yield event
            elif not line.isspace():
                left_out(line)


def _is_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        # There is none yet, or it is empty.
        return False
