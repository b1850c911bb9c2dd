"""A worker process: load a task, set it up, serve files until standard input ends.

    python -P -m tigerflow.workers.worker

What the task prints goes to standard error, which is the task's log; standard output
belongs to the protocol. When standard input ends, whoever started the worker wants no
more of it or is dead: a file in hand is given up, so that no other worker can be on the
same file meanwhile, teardown runs, and after a grace time the process ends anyway.
"""

import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from tigerflow.errors import OutputDirectoryError, TigerflowError
from tigerflow.log import configure, logger
from tigerflow.naming import printable
from tigerflow.settings import Settings
from tigerflow.tasks.base import Task, TaskKind, check_definition
from tigerflow.tasks.execution import Attempt, ErrorRecord, FileJob, Interrupted
from tigerflow.tasks.loader import Reference, load_task
from tigerflow.tasks.params import convert
from tigerflow.tasks.serving import TaskServer
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    Message,
    Ready,
    SetupFailed,
    TeardownFailed,
    WorkerTask,
    decode,
    encode,
)


class PipeSource:
    """The files that come through standard input; also tells the other side what it does."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO, grace_s: int) -> None:
        """Read requests and write answers; end the process `grace_s` after the end."""
        self._requests = requests
        self._answers = answers
        self._grace_s = grace_s
        self._queue: queue.SimpleQueue[FileRequest | None] = queue.SimpleQueue()
        self._ids: dict[FileJob, int] = {}
        self._on_stop: Callable[[], None] = lambda: None
        self._writing = threading.Lock()
        #: While True, the end of the input raises Interrupted in the main thread.
        self.interruptible = False
        self._interrupts_files = False
        self.stopped = False

    def start(self, kind: TaskKind) -> None:
        """Start reading."""
        # A coroutine is cancelled instead, by the event loop that it runs in.
        self._interrupts_files = kind is not TaskKind.LOCAL_ASYNC
        signal.signal(signal.SIGTERM, self._handle)
        # Ctrl-C at a terminal is for the program that the user sees.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def tell(self, message: Message) -> None:
        """Send a message; nobody listening any more is no error."""
        with self._writing:
            try:
                self._answers.write(encode(message))
                self._answers.flush()
            except BrokenPipeError:
                pass

    def next(self) -> FileJob | None:
        """Wait for a file; None once the input has ended."""
        request = self._queue.get()
        if request is None or self.stopped:
            return None
        job = FileJob(Path(request.input), Path(request.output), Path(request.error))
        self._ids[job] = request.id
        return job

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
            self.tell(Answer(self._ids.pop(job), Fate.DONE))
            return
        name = printable(job.input.name)
        logger.error("Failed processing: {}: {}", name, result.failure.summary)
        message = f"{name} failed: {result.failure.summary} (see {job.error})"
        self.tell(Answer(self._ids.pop(job), Fate.FAILED, message))

    def broken(self, job: FileJob, error: OutputDirectoryError) -> None:
        """Answer that the file is undone and not to blame."""
        self.interruptible = False
        self.tell(Answer(self._ids.pop(job), Fate.UNDONE, str(error)))

    def _read(self) -> None:
        for line in self._requests:
            request = decode(line)
            assert isinstance(request, FileRequest)  # noqa: S101 -- the protocol says so
            self._queue.put(request)
        self.stopped = True
        self._queue.put(None)
        self._on_stop()
        timer = threading.Timer(self._grace_s, _end_at_once)
        timer.daemon = True
        timer.start()
        os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True
        self._queue.put(None)
        if self.interruptible:
            self.interruptible = False
            raise Interrupted


class _ToldLifecycle:
    def __init__(self, source: PipeSource) -> None:
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


def _end_at_once() -> None:
    # The whole group, so that what the task started goes with it.
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Serve one task."""
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a TextIOWrapper here
    configure()
    requests = sys.stdin.buffer
    first = requests.readline()
    if not first:
        return
    told = decode(first)
    assert isinstance(told, WorkerTask)  # noqa: S101 -- the protocol says so
    # The task's own reads of standard input must not take requests.
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    source = PipeSource(requests, answers, Settings.from_environment().worker_grace)
    try:
        task, params = _load(told)
    except TigerflowError as error:
        source.tell(SetupFailed(str(error)))
        sys.exit(1)
    _serve(told, task, params, source)


def _load(told: WorkerTask) -> tuple[type[Task], dict[str, Any]]:
    directory = Path(told.directory)
    task = load_task(Reference.parse(told.module, directory), directory)
    check_definition(task)
    values, mistakes = convert(task.fields(), told.params)
    for name, sentence in mistakes.items():
        msg = f"params.{name}: {sentence}"
        raise TigerflowError(msg)
    return task, values


def _serve(
    told: WorkerTask,
    task: type[Task],
    params: dict[str, Any],
    source: PipeSource,
) -> None:
    source.start(task.kind)
    lifecycle = _ToldLifecycle(source)
    server = TaskServer(task, told.name, params, told.concurrency_limit)
    try:
        server.serve(source, lifecycle)
    except Interrupted:
        pass
    except BaseException as error:  # noqa: BLE001 -- the user's setup or teardown, or a bug
        traceback.print_exc()
        record = ErrorRecord.from_exception(told.name, "", error)
        message = SetupFailed if not lifecycle.is_set_up else TeardownFailed
        source.tell(message(record.summary))
        # Not sys.exit: threads that the task started must not keep the process.
        sys.stderr.flush()
        os._exit(1)
    logger.info("Task shutdown complete")
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
