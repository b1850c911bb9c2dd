"""The files that a service's workers process just now, for those who look on.

The service alone writes `running.json`, again when it changes, at most once a second. A
service that is killed leaves it, so it only counts while the one that wrote it runs.

    {"pid": int, "host": str, "tasks": {task: {stem of a file: number of its worker}}}
"""

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from tigerflow.files import open_as_private, read_regular
from tigerflow.rundir.layout import RUNNING
from tigerflow.rundir.lock import Holder

#: By task: stems of files, each with the number of the worker that processes it.
Running = Mapping[str, Mapping[str, int]]

#: More bytes than it ever has.
_LIMIT = 1 << 24


class LiveFile:
    """Keeps the file up to date for one service, in its run directory."""

    def __init__(self) -> None:
        self._written: Running | None = None

    def show(self, running: Running) -> None:
        """Write what is running, if that has changed and the disk takes it."""
        running = {task: dict(stems) for task, stems in running.items() if stems}
        if running == self._written:
            return
        value = {"pid": os.getpid(), "host": socket.gethostname(), "tasks": running}
        # One service writes at a time, so the name needs not be another each time.
        fresh = RUNNING.with_suffix(".new")
        with contextlib.suppress(OSError):
            # Another user may have left one.
            fresh.unlink(missing_ok=True)
            with open(fresh, "w", encoding="utf-8", opener=open_as_private) as file:
                json.dump(value, file)
            fresh.replace(RUNNING)
            self._written = running

    def close(self) -> None:
        """Take it away: nothing is running any more."""
        with contextlib.suppress(OSError):
            RUNNING.unlink()


def read_running(run_dir: Path, holder: Holder | None) -> Running:
    """Return what the service that runs says; nothing if none does, or none can say."""
    if holder is None:
        return {}
    try:
        value = json.loads(read_regular(run_dir / RUNNING, _LIMIT)[0])
        if (value["pid"], value["host"]) != (holder.pid, holder.host):
            return {}
        return {
            str(task): {str(stem): int(worker) for stem, worker in stems.items()}
            for task, stems in value["tasks"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
