"""Start and reach workers on this host: child processes with a socket pair each."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tigerflow.errors import OutputDirectoryError, is_outage
from tigerflow.files import append_to, remove_temporaries_of
from tigerflow.log import logger
from tigerflow.rundir.layout import RunLayout
from tigerflow.shortage import PAUSE_S, is_shortage, pauses
from tigerflow.tasks.shell.environment import in_container
from tigerflow.tasks.shell.launch import (
    launch_environment,
    setup_script,
    starting_directory,
)
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.link import Ending, LaunchError, NoRoomError, ending_of
from tigerflow.workers.protocol import Message, decode, encode

#: Messages are short, but a path may have 4,096 bytes, each escaped.
LINE_LIMIT = 2**20

#: Seconds to wait for the last messages of a dead worker, which have arrived already.
LAST_WORDS_S = 1


#: The module that workers run, by which their processes are recognized.
_WORKER = "tigerflow.workers.process.worker"


class LocalLauncher:
    """Starts workers of one task in one run directory, on this host."""

    def __init__(self, task: WorkerTask, run_dir: Path, alive: Path) -> None:
        """Start workers of `task` in `run_dir`.

        They hold a shared lock on the file `alive` for as long as they live.
        """
        self._task = task
        self._run_dir = run_dir
        self._alive = alive
        self._closing = asyncio.Event()
        self._launched = 0
        self._log = RunLayout(run_dir).task_log(task.name)

    async def launch(self) -> "ProcessLink":
        """Start one under the task's setup commands, and send it its task.

        Retry while the system is short of processes.

        Raises:
            LaunchError: it cannot be started, or the launcher is closing.
        """
        for pause_s in pauses():
            try:
                return await self._launch()
            except (OSError, RuntimeError) as error:
                if isinstance(error, OSError) and is_outage(error):
                    raise NoRoomError(OutputDirectoryError(Path(), error)) from error
                if not is_shortage(error):
                    raise LaunchError(str(error)) from error
                if pause_s == PAUSE_S:
                    logger.warning(
                        "[{}] cannot start a worker now: {}; retrying",
                        *(self._task.name, error),
                    )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause_s)
            if self._closing.is_set():
                break
        msg = "the run has ended"
        raise LaunchError(msg)

    async def _launch(self) -> "ProcessLink":
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with append_to(self._log) as log:
            log_start = log.tell()
            process, ours, theirs = await self._start(log)
        streams = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        link = ProcessLink(process, streams, theirs, self._log, log_start)
        # As many as the pool has counted: it counts those that are returned.
        self._launched += 1
        number = self._launched if self._task.workers > 1 else 0
        link.send(replace(self._task, worker=number))
        return link

    def avoid(self, node: str) -> None:
        """Do nothing: there is only this host."""

    async def close(self) -> None:
        """Start no more; nothing is left of a process that has ended."""
        self._closing.set()

    async def _start(
        self, log: BinaryIO
    ) -> tuple[asyncio.subprocess.Process, socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        try:
            return await self._spawn(log, theirs.fileno()), ours, theirs
        except (OSError, RuntimeError):
            ours.close()
            theirs.close()
            raise

    async def _spawn(
        self,
        log: BinaryIO,
        descriptor: int,
    ) -> asyncio.subprocess.Process:
        commands, python = self._task.setup_commands, sys.executable
        container = [*self._task.container]
        if commands or container:
            # The one of the environment that they activate; ours if they activate none.
            python = "python"
        module = ["-P", "-m", _WORKER]
        program = [python, *module, str(descriptor), str(self._alive)]
        program.append(str(self._run_dir))
        if container:
            container = ["--bind", str(self._alive.parent), *container]
        program = in_container(container, program)
        return await asyncio.create_subprocess_exec(
            *setup_script(commands, program),
            # Not the messages: setup commands may read standard input.
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
            cwd=starting_directory(self._task.home, self._run_dir),
            env=launch_environment(),
            start_new_session=True,
        )


class ProcessLink:
    """A worker process on this host; see `Link`."""

    notice_s = 0.0

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        theirs: socket.socket,
        log: Path,
        log_start: int,
    ) -> None:
        """Talk to `process` by the two streams; its prints go to the end of `log`.

        Their other end, `theirs`, stays open here as well. Otherwise asyncio, once it
        has written to a worker that is gone, would no longer read what the worker sent
        before.
        """
        self._process = process
        self._answers, self._requests = streams
        self._theirs = theirs
        self._heard = asyncio.Event()
        self.log = log
        self.log_start = log_start

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message; no error if the worker has ended."""
        self._requests.write(encode(message))

    async def receive(self) -> AsyncIterator[Message]:
        """Yield the worker's messages, until there can be no more."""
        try:
            async for line in self._answers:
                yield decode(line)
        finally:
            self._heard.set()

    def stop(self) -> None:
        """End its input: it gives up its files, tears down and ends."""
        with contextlib.suppress(OSError):
            self._requests.write_eof()

    def kill(self) -> None:
        """Kill it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> Ending:
        """Return when the process has ended and all its messages were received."""
        code = await self._process.wait()
        # Processes that the task started and did not end are killed with it.
        self.kill()
        # What it said is there, and this the end of it.
        self._theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), LAST_WORDS_S)
        self._requests.close()
        self._theirs.close()
        return ending_of(code)

    async def gone(self) -> None:
        """Return at once: the place of a process that has ended is free."""

    def remove_temporaries(self, directory: Path) -> None:
        """Remove the temporary files that it has left, once it has ended."""
        remove_temporaries_of(directory, self._process.pid)


def kill_unknown(known: Container[int]) -> list[int]:
    """Kill the workers that no pool knows of yet; return their process ids.

    A process exists before the one that starts it knows of it.
    """
    pids = [pid for pid in _children() if pid not in known and _is_worker(pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return pids


def _children() -> Iterator[int]:
    """Yield the ids of this process's children."""
    own = str(os.getpid())
    for path in Path("/proc").glob("[0-9]*"):
        # It may have ended; what is no process has no such file.
        with contextlib.suppress(OSError, IndexError):
            words = (path / "stat").read_text().rpartition(")")[2].split()
            if words[1] == own:
                yield int(path.name)


def _is_worker(pid: int) -> bool:
    try:
        return _WORKER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
