"""The files that a worker's pool sends, as a source for the loop over files.

Also words the message about a file that failed, which the service logs.
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from tigerflow.errors import StorageError
from tigerflow.files import remove_temporaries_of
from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.shortage import start_thread
from tigerflow.tasks.base import TaskKind
from tigerflow.tasks.children import OwnHandlers
from tigerflow.tasks.error_file import ErrorRecord
from tigerflow.tasks.execution import Attempt, Interrupted
from tigerflow.tasks.file_job import FileJob
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    HandedBack,
    Message,
    Recall,
)

#: Characters of an exception's message that are sent; it may have any length.
SUMMARY_LIMIT = 1000


class PoolSource:
    """The files that a pool sends; it gets an answer to each."""

    def __init__(
        self,
        requests: Iterator[Message],
        send: Callable[[Message], None],
        grace_s: int,
        run_dir: Path,
        warnings: Sequence[signal.Signals] = (),
    ) -> None:
        """Read requests and `send` answers; end the process `grace_s` after the end.

        `send` is called from several threads, and never raises. The requests' paths are
        relative to `run_dir`. Signals in `warnings` have the effect of SIGTERM.
        """
        self._warnings = warnings
        self.run_dir = run_dir
        self._requests = requests
        self.send = send
        self._grace_s = grace_s
        #: The files of each call that is yet to be made.
        self._queue: queue.SimpleQueue[list[FileRequest] | None] = queue.SimpleQueue()
        # By identity: the same file may come again while its first run is given up.
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
        """Wait for the files of the next call; none at the end."""
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
        """Return 0: when the input ends, nobody waits for the files in progress."""
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
        name, summary = printable(job.input.name), summary_of(result.failure)
        place = job.error.relative_to(self.run_dir)
        logger.error("Failed processing: {}: {}", name, summary)
        message = f"{name} failed: {summary} (see {place})"
        self._answer(job, Fate.FAILED, message, result)

    def broken(self, job: FileJob, error: StorageError) -> None:
        """Answer that the file is undone, through no fault of its own."""
        self.interruptible = False
        number, _ = self._ids.pop(id(job))
        is_outage = error.is_outage
        self.send(Answer(number, Fate.BLOCKED, str(error), is_outage=is_outage))

    def _answer(
        self,
        job: FileJob,
        fate: Fate,
        message: str = "",
        result: Attempt | None = None,
    ) -> None:
        number, _ = self._ids.pop(id(job))
        started, seconds = _timing(result) if result else ("", 0.0)
        self.send(Answer(number, fate, message, started, seconds))

    def _read(self) -> None:
        try:
            self._take_all()
        finally:
            # For whatever reason nothing more can be received.
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
            # The input has ended in the meantime.
            self._queue.put(None)
        self.send(HandedBack(ids))

    def _end_at_once(self) -> None:
        for directory in {job.output.parent for _, job in self._ids.copy().values()}:
            remove_temporaries_of(directory, os.getpid())
        # The whole group, with the processes that the task started.
        os.killpg(0, signal.SIGKILL)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True
        self._queue.put(None)
        if self.interruptible:
            self.interruptible = False
            raise Interrupted


def take_no_notice(_number: int, _frame: FrameType | None) -> None:
    """Go on."""


def summary_of(record: ErrorRecord) -> str:
    """Return what was raised, on a line of limited length."""
    text = record.summary
    return text if len(text) <= SUMMARY_LIMIT else f"{text[:SUMMARY_LIMIT]}…"


def _timing(result: Attempt) -> tuple[str, float]:
    finished = result.finished or result.started
    return result.started.isoformat(), (finished - result.started).total_seconds()
