"""One service a run directory, also across the hosts of a cluster."""

import asyncio
import contextlib
import errno
import fcntl
import json
import math
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tigerflow.errors import RunningError
from tigerflow.files import (
    append_to,
    open_regular,
    read_regular,
    see_anew,
    write_json,
)
from tigerflow.log import logger
from tigerflow.rundir.requests import Asked, Request, Requests
from tigerflow.shortage import in_thread

#: A service touches its `run.pid` this often; one that is three times as old is dead.
BEAT_S = 10

#: How often a service looks for what others ask of it.
LOOK_S = 1.0

_LOCK_NAME = "run.lock"

#: What file systems without flock(2) say.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

#: More bytes than any `run.pid` has.
PID_LIMIT = 4096


@dataclass(frozen=True)
class Holder:
    """The service that runs, by `run.pid`."""

    pid: int
    host: str
    #: Whether it is of the Dask-based TigerFlow, which names no host and has no lock.
    is_dask_based: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host."""
        return self.host == socket.gethostname()


class RunLock:
    """Held by the service of a run directory.

    An flock, which the kernel takes back from a process that dies, and `run.pid` with
    host and process id, whose time stamp says that the service lives where locks of
    other hosts cannot be seen.
    """

    def __init__(self, state: Path, who: str = "Pipeline") -> None:
        """Lock the run directory whose state directory this is, for `who`."""
        self._who = who
        self._requests = Requests(state)
        self._lock_path = state / _LOCK_NAME
        self._pid_path = state / "run.pid"

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            RunningError: another service has it.
        """
        self._file = append_to(self._lock_path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            if error.errno in _NO_LOCKS:
                raise _without_locks(self._lock_path, error) from error
            raise self._running() from error
        try:
            self._requests.begin()
            self._claim()
        except BaseException:
            self._file.close()
            raise
        return self

    def _claim(self) -> None:
        """Put `run.pid` there; of services on two hosts at once, only one can."""
        path = self._pid_path
        see_anew(path)
        # First: what is written from now on is not that of a dead one.
        is_left = path.exists()
        other = read_holder(path)
        if other is not None and other.is_dask_based:
            raise _dask_based(other, path)
        if other is not None and not other.is_here and _is_fresh(path):
            raise self._running()
        if is_left:
            path.unlink(missing_ok=True)
        own = path.with_name(f"{path.name}.{socket.gethostname()}")
        write_json(own, {"pid": os.getpid(), "host": socket.gethostname()})
        try:
            # A link, unlike a new file, is there with its content.
            os.link(own, path)
        except FileExistsError as error:
            raise self._running() from error
        finally:
            own.unlink()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock back."""
        self._pid_path.unlink(missing_ok=True)
        self._file.close()

    def beat(self) -> None:
        """Show other hosts that the service lives."""
        # That the file was removed has not harmed the lock.
        with contextlib.suppress(OSError):
            os.utime(self._pid_path)

    async def look_after(self, retry: Callable[[], bool] = lambda: False) -> None:
        """Beat, and obey what others ask; `retry` tells whether it takes files up."""
        loop = asyncio.get_running_loop()
        next_beat = loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            # In a thread: a file server may take its time, and the loop must not.
            for asked in await in_thread(self._requests.take):
                if _obey(asked, retry):
                    await in_thread(self._requests.answer, asked)
            if loop.time() >= next_beat:
                next_beat += BEAT_S
                await in_thread(self.beat)

    def _running(self) -> RunningError:
        other = read_holder(self._pid_path)
        where = f" (pid {other.pid} on {other.host})" if other else ""
        more = ""
        if other is not None and not other.is_here:
            seconds = _seconds_left(self._pid_path)
            more = f"; if it was killed, it can be started here in {seconds} s"
        return RunningError(f"{self._who} is already running{where}{more}")


def _obey(asked: Asked, retry: Callable[[], bool]) -> bool:
    """Do what is asked; tell whether that is so."""
    if asked.request is Request.RETRY:
        return retry()
    logger.warning("Received a stop request from another host")
    # The same as from this host, also in its exit code.
    os.kill(os.getpid(), signal.SIGTERM)
    if asked.request is Request.STOP_AT_ONCE:
        # Another number: the same, twice at once, may arrive only once.
        os.kill(os.getpid(), signal.SIGINT)
    return True


def _without_locks(path: Path, error: OSError) -> RunningError:
    return RunningError(
        f"Cannot lock {path.absolute()}: {error.strerror}. The file system has no "
        "flock: mount it with locks, or use an output directory on another one"
    )


def read_holder(path: Path) -> Holder | None:
    """Return what a `run.pid` says, or None if there is none that can be read."""
    try:
        value = json.loads(read_regular(path, PID_LIMIT)[0])
        if type(value) is int and value > 0:
            return Holder(value, socket.gethostname(), is_dask_based=True)
        return Holder(int(value["pid"]), str(value["host"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def find_running(state: Path) -> Holder | None:
    """Return the service that runs in a run directory, or None."""
    path = state / "run.pid"
    # It may have started a moment ago, on another host.
    see_anew(path)
    holder = read_holder(path)
    if holder is None:
        return None
    if holder.is_dask_based:
        alive = _is_tigerflow(holder.pid)
    else:
        alive = _is_locked(state) if holder.is_here else _is_fresh(path)
    return holder if alive else None


def _is_tigerflow(pid: int) -> bool:
    """Tell whether a process of this host is a TigerFlow, by its command."""
    try:
        return b"tigerflow" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _dask_based(holder: Holder, path: Path) -> RunningError:
    """Return what to do about the `run.pid` of a Dask-based TigerFlow."""
    what = f"A pipeline of the Dask-based TigerFlow (pid {holder.pid})"
    place = shlex.quote(str(path.absolute()))
    if _is_tigerflow(holder.pid):
        output_dir = shlex.quote(str(path.absolute().parent.parent))
        return RunningError(f"{what} is running; end it: tigerflow stop {output_dir}")
    return RunningError(
        f"{what} was not shut down properly. If it does not run on another host, "
        f"remove its process id, then start again: rm {place}"
    )


def _is_locked(state: Path) -> bool:
    """Tell whether a process of this host has the lock; its id may be another's now."""
    try:
        with open(state / _LOCK_NAME, "rb", opener=open_regular) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _is_fresh(path: Path) -> bool:
    return _seconds_left(path) > 0


def _seconds_left(path: Path) -> int:
    """Return for how long a service of another host is not yet taken for dead."""
    try:
        see_anew(path)
        left = path.stat().st_mtime + 3 * BEAT_S - _time_at(path.parent)
    except OSError:
        return 0
    return max(0, math.ceil(left))


def _time_at(state: Path) -> float:
    """Return the time by the clock that dates files there: hosts may have others."""
    lock = state / _LOCK_NAME
    try:
        os.utime(lock)
        return lock.stat().st_mtime
    except OSError:
        # Somebody else's run, or none.
        return time.time()
