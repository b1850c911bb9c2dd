"""A worker process: load a task, set it up, serve files until no more can come.

    python -P -m tigerflow.workers.process.worker DESCRIPTOR ALIVE_FILE RUN_DIR

The descriptor is a socket for the protocol; what the task prints goes to the task's
log. The process starts in the directory of the task's relative paths, or where a setup
command has changed to; none of its own paths depends on that. When the other side of
the socket closes, the worker is no longer needed or its host is dead: the present file
is given up, so that no two workers ever have the same file, teardown runs, and after
the grace time the process is killed.
"""

import contextlib
import faulthandler
import fcntl
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tigerflow.errors import TigerflowError
from tigerflow.log import configure, logger, mark_lines
from tigerflow.settings import Settings
from tigerflow.shortage import is_shortage
from tigerflow.tasks.base import Task, check_definition
from tigerflow.tasks.children import keep_from_children
from tigerflow.tasks.error_file import ErrorRecord
from tigerflow.tasks.execution import Interrupted
from tigerflow.tasks.file_loop import FileLoop
from tigerflow.tasks.loader import Reference, lead_children_to, load_task
from tigerflow.tasks.param_values import convert
from tigerflow.tasks.places import Places
from tigerflow.tasks.shell.launch import default_threads, starting_directory
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.process.source import PoolSource, summary_of
from tigerflow.workers.protocol import (
    Message,
    Ready,
    SetupFailed,
    TeardownFailed,
    decode,
    encode,
)

#: Characters of a traceback that are sent: messages are lines of a limited length.
TRACEBACK_LIMIT = 50_000

#: Among the flags of a process in proc(5); see the kernel's include/linux/sched.h.
PF_EXITING = 0x4


class _ReportedLifecycle:
    def __init__(self, source: PoolSource) -> None:
        self._source = source
        self.is_set_up = False

    def setting_up(self) -> None:
        logger.info("Setting up task")
        self._source.interruptible = True

    def set_up(self) -> None:
        self._source.interruptible = False
        self.is_set_up = True
        logger.info("Task setup complete")
        self._source.send(Ready())

    def shutting_down(self) -> None:
        self._source.interruptible = False
        logger.info("Shutting down task")


class SocketChannel:
    """The messages to and from a pool on the same host, over a socket."""

    def __init__(self, descriptor: int) -> None:
        """Take the socket over."""
        # The copy is not inherited by what the task starts, unlike the one passed.
        with socket.socket(fileno=descriptor) as passed:
            channel = passed.dup()
        keep_from_children(channel.fileno())
        self._reader = channel.makefile("rb")
        self._writer = channel.makefile("wb")
        self._writing = threading.Lock()

    def receive(self) -> Iterator[Message]:
        """Yield the pool's messages, until it is gone or sends no more."""
        # A pool that is killed with answers unread resets the connection.
        with contextlib.suppress(ConnectionResetError):
            for line in self._reader:
                # A torn line is from a pool that was killed while it wrote.
                if line.endswith(b"\n"):
                    yield decode(line)

    def send(self, message: Message) -> None:
        """Send a message; no error if nobody listens any more."""
        with self._writing, contextlib.suppress(OSError):
            self._writer.write(encode(message))
            self._writer.flush()


def prepare_process() -> None:
    """Set up logging, and show crashes."""
    faulthandler.enable()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a TextIOWrapper here
    configure()


def main() -> None:
    """Serve one task for the pool at the other end of the descriptor."""
    prepare_process()
    wire = SocketChannel(int(sys.argv[1]))
    # Locked to the end, so that the next host waits for this worker even if its own
    # host was killed. A cleaner of /tmp may have removed the file.
    alive = os.open(sys.argv[2], os.O_RDONLY | os.O_CREAT, 0o600)
    keep_from_children(alive)
    fcntl.flock(alive, fcntl.LOCK_SH)
    requests = wire.receive()
    task = next(requests, None)
    if task is None:
        return
    assert isinstance(task, WorkerTask)  # noqa: S101 -- the protocol says so
    host = os.getppid()
    grace_s = Settings.from_environment().worker_grace
    source = PoolSource(requests, wire.send, grace_s, Path(sys.argv[3]))
    code = serve_pool(task, source)
    end_process(code, is_orphan=os.getppid() != host or _is_ending(host))


def _is_ending(pid: int) -> bool:
    """Return whether a process is ending: it closes its sockets before it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return bool(int(words[6]) & PF_EXITING)


def serve_pool(task: WorkerTask, source: PoolSource) -> int:
    """Load the task and serve it; return the exit code.

    What goes wrong is reported to the pool.
    """
    if task.worker:
        mark_lines(f"worker {task.worker}")
    # After the setup commands, which may have set them.
    default_threads(task.threads)
    try:
        task_class, params = _load(task, source.run_dir)
    except TigerflowError as error:
        source.send(SetupFailed(str(error)))
        return 1
    return _serve(task, task_class, params, source)


def _load(task: WorkerTask, run_dir: Path) -> tuple[type[Task], dict[str, Any]]:
    directory = Path(task.directory)
    task_class = load_task(Reference.parse(task.module, directory), directory)
    check_definition(task_class)
    lead_children_to(task_class)
    places = Places(Path(task.home), run_dir)
    # Typer may check that a default path exists before it can be made absolute.
    with contextlib.chdir(starting_directory(task.home, run_dir)):
        values, mistakes = convert(task_class.fields(), task.params, places)
    for name, sentence in mistakes.items():
        msg = f"params.{name}: {sentence}"
        raise TigerflowError(msg)
    return task_class, values


def _serve(
    task: WorkerTask,
    task_class: type[Task],
    params: dict[str, Any],
    source: PoolSource,
) -> int:
    source.start(task_class.kind)
    lifecycle = _ReportedLifecycle(source)
    server = FileLoop(
        task_class,
        task.name,
        params,
        task.concurrency_limit,
        batch_size=task.batch_size,
        timeout_s=task.timeout,
    )
    try:
        server.serve(source, lifecycle)
    except Interrupted:
        pass
    except BaseException as error:  # noqa: BLE001 -- the user's setup or teardown, or a bug
        traceback.print_exc()
        record = ErrorRecord.from_exception(task.name, "", error)
        if lifecycle.is_set_up:
            source.send(TeardownFailed(summary_of(record)))
        else:
            trace = record.traceback[-TRACEBACK_LIMIT:]
            failed = SetupFailed(summary_of(record), trace, is_shortage(error))
            source.send(failed)
        return 1
    logger.info("Task shutdown complete")
    return 0


def end_process(code: int, *, is_orphan: bool) -> NoReturn:
    """End at once: threads that the task started must not keep the process alive.

    An orphan also kills what its task started and did not end: nobody else would.
    """
    for stream in (sys.stdout, sys.stderr):
        # A task may have closed or replaced it.
        with contextlib.suppress(Exception):
            stream.flush()
    if is_orphan:
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


if __name__ == "__main__":
    main()
