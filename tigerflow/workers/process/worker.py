"""A worker process: load a task, set it up, serve files until no more can come.

    python -P -m tigerflow.workers.process.worker DESCRIPTOR ALIVE_FILE RUN_DIR

The descriptor is a socket that belongs to the protocol; what the task prints goes to
the task's log. The process starts where the task's relative paths do, or where a setup
command went; none of its own paths depends on that. When the socket's other side ends,
whoever started the worker wants no more of it or is dead: a file in hand is given up,
so that no other worker can be on the same file meanwhile, teardown runs, and after a
grace time the process ends anyway.
"""

import contextlib
import faulthandler
import fcntl
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tigerflow.errors import StorageError, TigerflowError
from tigerflow.files import remove_temporaries_of
from tigerflow.log import configure, logger, mark_lines
from tigerflow.naming import printable
from tigerflow.settings import Settings
from tigerflow.shortage import is_shortage, start_thread
from tigerflow.tasks.base import Task, TaskKind, check_definition
from tigerflow.tasks.children import OwnHandlers, keep_from_children
from tigerflow.tasks.error_file import ErrorRecord
from tigerflow.tasks.execution import Attempt, Interrupted
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.file_loop import FileLoop
from tigerflow.tasks.loader import Reference, lead_children_to, load_task
from tigerflow.tasks.param_values import convert
from tigerflow.tasks.places import Places
from tigerflow.tasks.shell.launch import default_threads, starting_directory
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    HandedBack,
    Message,
    Ready,
    Recall,
    SetupFailed,
    TeardownFailed,
    decode,
    encode,
)

#: An exception's message may have any length; this is enough of it for a line.
SUMMARY_LIMIT = 1000

#: The same of a traceback, in characters: messages are lines of a limited length.
TRACEBACK_LIMIT = 50_000

#: Among the flags of a process in proc(5); see the kernel's include/linux/sched.h.
PF_EXITING = 0x4


class PoolSource:
    """The files that a pool sends; also tells it what becomes of them."""

    def __init__(
        self,
        requests: Iterator[Message],
        tell: Callable[[Message], None],
        grace_s: int,
        run_dir: Path,
        warnings: Sequence[signal.Signals] = (),
    ) -> None:
        """Read requests and `tell` answers; end the process `grace_s` after the end.

        `tell` is called from several threads, and never raises. The requests' paths
        start at `run_dir`. Beside SIGTERM, it ends on `warnings`.
        """
        self._warnings = warnings
        self.run_dir = run_dir
        self._requests = requests
        self.tell = tell
        self._grace_s = grace_s
        #: The files of each call that is to come.
        self._queue: queue.SimpleQueue[list[FileRequest] | None] = queue.SimpleQueue()
        # By identity: the same file may come again while it is given up or run twice.
        self._ids: dict[int, tuple[int, FileJob]] = {}
        self._on_stop: Callable[[], None] = lambda: None
        #: While True, the end of the input raises Interrupted in the main thread.
        self.interruptible = False
        self._interrupts_files = False
        self.stopped = False

    def start(self, kind: TaskKind) -> None:
        """Start reading."""
        # A coroutine is cancelled instead, by the event loop that it runs in.
        self._interrupts_files = kind is not TaskKind.LOCAL_ASYNC
        # Ctrl-C at a terminal is for the program that the user sees.
        handlers = {signal.SIGTERM: self._handle, signal.SIGINT: take_no_notice}
        OwnHandlers().set(handlers | dict.fromkeys(self._warnings, self._handle))
        reading = threading.Thread(target=self._read, name="requests", daemon=True)
        start_thread(reading)

    def batch(self, limit: int) -> list[FileJob]:
        """Wait for the files of a call, of which the pool knows; none at the end."""
        del limit
        call = self._queue.get()
        if call is None or self.stopped:
            return []
        return [self._take(request) for request in call]

    def _take(self, request: FileRequest) -> FileJob:
        paths = (request.input, request.output, request.error)
        job = FileJob(*(self.run_dir / path for path in paths))
        self._ids[id(job)] = (request.id, job)
        return job

    def stop(self) -> None:
        """Hand out no more files."""
        self.stopped = True
        self._queue.put(None)
        self._on_stop()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the input ends."""
        self._on_stop = callback
        if self.stopped:
            callback()

    def patience_s(self) -> float:
        """Return 0: when the input ends, nobody waits for files in flight."""
        return 0

    def started(self, job: FileJob) -> None:
        """Make the run interruptible."""
        del job
        self.interruptible = self._interrupts_files
        if self.stopped and self.interruptible:
            raise Interrupted

    def finished(self, job: FileJob, result: Attempt) -> None:
        """Answer the file's request."""
        self.interruptible = False
        if result.failure is None:
            self._answer(job, Fate.DONE, result=result)
            return
        name, summary = printable(job.input.name), _summary(result.failure)
        place = job.error.relative_to(self.run_dir)
        logger.error("Failed processing: {}: {}", name, summary)
        message = f"{name} failed: {summary} (see {place})"
        self._answer(job, Fate.FAILED, message, result)

    def broken(self, job: FileJob, error: StorageError) -> None:
        """Answer that the file is undone and not to blame."""
        self.interruptible = False
        number, _ = self._ids.pop(id(job))
        is_outage = error.is_outage
        self.tell(Answer(number, Fate.BLOCKED, str(error), is_outage=is_outage))

    def _answer(
        self,
        job: FileJob,
        fate: Fate,
        message: str = "",
        result: Attempt | None = None,
    ) -> None:
        number, _ = self._ids.pop(id(job))
        started, seconds = _timing(result) if result else ("", 0.0)
        self.tell(Answer(number, fate, message, started, seconds))

    def _read(self) -> None:
        try:
            self._take_all()
        finally:
            # Whatever the reason is for which no more can be received.
            self._end_of_input()

    def _take_all(self) -> None:
        call: list[FileRequest] = []
        for message in self._requests:
            if isinstance(message, Recall):
                self._hand_back()
                continue
            assert isinstance(message, FileRequest)  # noqa: S101 -- the protocol says so
            call.append(message)
            if not message.more:
                self._queue.put(call)
                call = []

    def _end_of_input(self) -> None:
        self.stop()
        timer = threading.Timer(self._grace_s, self._end_at_once)
        timer.daemon = True
        timer.start()
        os.kill(os.getpid(), signal.SIGTERM)

    def _hand_back(self) -> None:
        ids = []
        with contextlib.suppress(queue.Empty):
            while (call := self._queue.get_nowait()) is not None:
                ids += [request.id for request in call]
            # The end has come meanwhile.
            self._queue.put(None)
        self.tell(HandedBack(ids))

    def _end_at_once(self) -> None:
        for directory in {job.output.parent for _, job in self._ids.copy().values()}:
            remove_temporaries_of(directory, os.getpid())
        # The whole group, so that what the task started goes with it.
        os.killpg(0, signal.SIGKILL)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True
        self._queue.put(None)
        if self.interruptible:
            self.interruptible = False
            raise Interrupted


def take_no_notice(_number: int, _frame: FrameType | None) -> None:
    """Go on."""


class _ToldLifecycle:
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
        self._source.tell(Ready())

    def shutting_down(self) -> None:
        self._source.interruptible = False
        logger.info("Shutting down task")


def _summary(record: ErrorRecord) -> str:
    text = record.summary
    return text if len(text) <= SUMMARY_LIMIT else f"{text[:SUMMARY_LIMIT]}…"


def _timing(result: Attempt) -> tuple[str, float]:
    finished = result.finished or result.started
    return result.started.isoformat(), (finished - result.started).total_seconds()


class Wire:
    """The messages over a socket to the pool, on the same host."""

    def __init__(self, descriptor: int) -> None:
        """Take the socket over."""
        # Not inherited by what the task starts, unlike the descriptor that was passed.
        with socket.socket(fileno=descriptor) as passed:
            channel = passed.dup()
        keep_from_children(channel.fileno())
        self._reader = channel.makefile("rb")
        self._writer = channel.makefile("wb")
        self._writing = threading.Lock()

    def receive(self) -> Iterator[Message]:
        """Yield what the pool says, until it is gone or says no more."""
        # Whoever is killed with answers unread resets the connection.
        with contextlib.suppress(ConnectionResetError):
            for line in self._reader:
                # What is torn is of a pool that was killed while it wrote.
                if line.endswith(b"\n"):
                    yield decode(line)

    def tell(self, message: Message) -> None:
        """Send a message; nobody listening any more is no error."""
        with self._writing, contextlib.suppress(OSError):
            self._writer.write(encode(message))
            self._writer.flush()


def prepare_process() -> None:
    """Log, and show crashes, as all workers do."""
    faulthandler.enable()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a TextIOWrapper here
    configure()


def main() -> None:
    """Serve one task for the pool at the other end of the descriptor."""
    prepare_process()
    wire = Wire(int(sys.argv[1]))
    # Held to the end, so that the next host waits for this one's workers, even when it
    # was killed and cannot.
    # What cleans /tmp may have been quicker.
    alive = os.open(sys.argv[2], os.O_RDONLY | os.O_CREAT, 0o600)
    keep_from_children(alive)
    fcntl.flock(alive, fcntl.LOCK_SH)
    requests = wire.receive()
    told = next(requests, None)
    if told is None:
        return
    assert isinstance(told, WorkerTask)  # noqa: S101 -- the protocol says so
    host = os.getppid()
    grace_s = Settings.from_environment().worker_grace
    source = PoolSource(requests, wire.tell, grace_s, Path(sys.argv[3]))
    code = serve_pool(told, source)
    end_process(code, is_orphan=os.getppid() != host or _is_ending(host))


def _is_ending(pid: int) -> bool:
    """Tell whether a process is about to be gone: it closes its sockets before that."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return bool(int(words[6]) & PF_EXITING)


def serve_pool(told: WorkerTask, source: PoolSource) -> int:
    """Load the task and serve it; return the exit code. The pool is told all else."""
    if told.worker:
        mark_lines(f"worker {told.worker}")
    # After the setup commands, which may have set them.
    default_threads(told.threads)
    try:
        task, params = _load(told, source.run_dir)
    except TigerflowError as error:
        source.tell(SetupFailed(str(error)))
        return 1
    return _serve(told, task, params, source)


def _load(told: WorkerTask, run_dir: Path) -> tuple[type[Task], dict[str, Any]]:
    directory = Path(told.directory)
    task = load_task(Reference.parse(told.module, directory), directory)
    check_definition(task)
    lead_children_to(task)
    places = Places(Path(told.home), run_dir)
    # A default may be checked where it is: before it can be made absolute.
    with contextlib.chdir(starting_directory(told.home, run_dir)):
        values, mistakes = convert(task.fields(), told.params, places)
    for name, sentence in mistakes.items():
        msg = f"params.{name}: {sentence}"
        raise TigerflowError(msg)
    return task, values


def _serve(
    told: WorkerTask,
    task: type[Task],
    params: dict[str, Any],
    source: PoolSource,
) -> int:
    source.start(task.kind)
    lifecycle = _ToldLifecycle(source)
    server = FileLoop(
        task,
        told.name,
        params,
        told.concurrency_limit,
        batch_size=told.batch_size,
        timeout_s=told.timeout,
    )
    try:
        server.serve(source, lifecycle)
    except Interrupted:
        pass
    except BaseException as error:  # noqa: BLE001 -- the user's setup or teardown, or a bug
        traceback.print_exc()
        record = ErrorRecord.from_exception(told.name, "", error)
        if lifecycle.is_set_up:
            source.tell(TeardownFailed(_summary(record)))
        else:
            trace = record.traceback[-TRACEBACK_LIMIT:]
            failed = SetupFailed(_summary(record), trace, is_shortage(error))
            source.tell(failed)
        return 1
    logger.info("Task shutdown complete")
    return 0


def end_process(code: int, *, is_orphan: bool) -> NoReturn:
    """End at once; threads that the task started must not keep the process.

    Nobody is left to end what an orphan's task started and did not end.
    """
    for stream in (sys.stdout, sys.stderr):
        # A task may have closed it, or put something else in its place.
        with contextlib.suppress(Exception):
            stream.flush()
    if is_orphan:
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


if __name__ == "__main__":
    main()
