"""The workers of one task: start them when files wait, replace them when they die."""

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tigerflow.errors import OutputDirectoryError
from tigerflow.files import remove_temporaries_of
from tigerflow.layout import RunLayout
from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.settings import Settings
from tigerflow.tasks.execution import PRINTED_TAIL, ErrorRecord, FileJob, write_error
from tigerflow.tasks.launch import launch_environment, setup_script
from tigerflow.tasks.serving import timeout_message
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

#: Messages are short, but a path may have 4,096 bytes, each escaped.
LINE_LIMIT = 2**20

#: How long a dead worker's last words are waited for: they are there already, but the
#: end of them is not when something that it started has left its process group.
LAST_WORDS_S = 1

#: What numerical libraries read to find how many threads to start; Snakemake sets
#: them for each job, but the workers outlive the job that starts them.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


_GIVEN_UP = "given up: the run has ended"


@dataclass(eq=False)
class _Pending:
    job: FileJob
    answer: asyncio.Future[Answer]
    #: How many workers have died under it.
    deaths: int = 0
    #: Runs while a worker has it, when the task has a timeout.
    timer: asyncio.TimerHandle | None = None
    is_late: bool = False

    def settle(self, answer: Answer) -> None:
        """Give the answer, unless nobody waits for it any more."""
        self.stop_timer()
        if not self.answer.done():
            self.answer.set_result(answer)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(eq=False)
class _Worker:
    process: asyncio.subprocess.Process
    answers: asyncio.StreamReader
    requests: asyncio.StreamWriter
    log_start: int
    ready: bool = False
    #: Asked to end; gets no more files.
    leaving: bool = False
    in_flight: dict[int, _Pending] = field(default_factory=dict)
    #: Runs while it has no file, then while it tears down.
    timer: asyncio.TimerHandle | None = None

    def dismiss(self, grace_s: int) -> None:
        """End its input: it gives up what it has in hand, tears down and ends."""
        if self.leaving:
            return
        self.leaving = True
        self.stop_timer()
        self.timer = asyncio.get_running_loop().call_later(grace_s, self.kill)
        with contextlib.suppress(OSError):
            self.requests.write_eof()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def kill(self) -> None:
        """Kill it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class TaskPool:
    """The worker processes of one task in one run directory, on this host.

    A file under which a worker died is tried again, alone on a worker, so that one that
    kills its worker takes no others with it. After the retries it fails, with an `.err`
    that names the signal or exit code. A setup that fails stops the task: no file is
    blamed, and none is tried again in this pool.
    """

    def __init__(
        self,
        task: WorkerTask,
        run_dir: Path,
        settings: Settings,
        alive: Path,
        retries: int = 0,
    ) -> None:
        """Serve `task` in `run_dir`; workers start with the first file.

        They hold a shared lock on the file `alive` for as long as they live. A file is
        tried again up to `retries` times when its worker dies.
        """
        self._task = task
        self._run_dir = run_dir
        self._alive = alive
        self._settings = settings
        self._retries = retries
        self._log = RunLayout(run_dir).task_log(task.name)
        self._waiting: deque[_Pending] = deque()
        self._workers: set[_Worker] = set()
        self._caretakers: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._next_id = 0
        #: How many workers were killed before they were ready.
        self._early_deaths = 0
        self._stopped = False
        #: Why no more files are taken.
        self._refusal: str | None = None
        #: Why the task cannot run, once that is known.
        self.failure: str | None = None
        #: What went wrong at teardown.
        self.problems: list[str] = []

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a worker nor a file."""
        return not (self._caretakers or self._waiting)

    async def process(self, job: FileJob) -> Answer:
        """Process one file and return what became of it.

        Cancelling gives up a file that still waits; one in flight goes on.
        """
        pending = _Pending(job, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._dispatch()
        try:
            return await pending.answer
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(pending)

    @property
    def is_crowded(self) -> bool:
        """Whether it has more files than all workers it may have take at once."""
        in_hand = sum(len(worker.in_flight) for worker in self._workers)
        limit = self._task.workers * self._task.concurrency_limit
        return len(self._waiting) + in_hand > limit

    def drain(self) -> None:
        """Hand back the files that wait; those in hand are finished."""
        self._refusal = _GIVEN_UP
        self._dispatch()

    async def stop(self) -> None:
        """End all workers, with teardown, and wait for them; kill those that stay."""
        self._stopped = True
        self.drain()
        for worker in self._workers:
            worker.dismiss(self._settings.worker_grace)
        if self._caretakers:
            await asyncio.wait(self._caretakers)

    def kill(self) -> list[int]:
        """Kill all workers at once, without teardown; return their process ids."""
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        return [worker.process.pid for worker in workers]

    def _dispatch(self) -> None:
        """Give waiting files to workers with room; start one more if there is none."""
        refusal = self._refusal or self.failure
        if refusal is not None:
            while self._waiting:
                self._waiting.popleft().settle(Answer(0, Fate.UNDONE, refusal))
            return
        for worker in self._workers:
            while self._waiting and self._has_room(worker, self._waiting[0]):
                self._give(worker, self._waiting.popleft())
        expected = self._starting * self._task.concurrency_limit
        if len(self._waiting) > expected and len(self._caretakers) < self._task.workers:
            self._starting += 1
            caretaker = asyncio.create_task(self._take_care())
            self._caretakers.add(caretaker)
            caretaker.add_done_callback(self._release)

    def _release(self, caretaker: asyncio.Task[None]) -> None:
        self._caretakers.discard(caretaker)
        # Its place is free only now: files may have waited for a fresh worker.
        self._dispatch()

    def _has_room(self, worker: _Worker, pending: _Pending) -> bool:
        in_flight = worker.in_flight.values()
        # A file that may have killed a worker has one for itself.
        alone = pending.deaths or any(other.deaths for other in in_flight)
        limit = 1 if alone else self._task.concurrency_limit
        return worker.ready and not worker.leaving and len(in_flight) < limit

    def _give(self, worker: _Worker, pending: _Pending) -> None:
        worker.stop_timer()
        self._next_id += 1
        worker.in_flight[self._next_id] = pending
        job = pending.job
        request = FileRequest(
            self._next_id,
            str(job.input),
            str(job.output),
            str(job.error),
        )
        if len(worker.in_flight) == 1:
            # What it prints from here on is this file's, and that of its company.
            worker.log_start = self._log.stat().st_size
        worker.requests.write(encode(request))
        if self._task.timeout is not None:
            # An async worker cancels the run itself, unless something blocks its loop.
            patience = self._settings.worker_grace if self._is_shared else 0
            pending.timer = asyncio.get_running_loop().call_later(
                self._task.timeout + patience, self._end_late, worker, pending
            )

    @property
    def _is_shared(self) -> bool:
        return self._task.concurrency_limit > 1

    def _end_late(self, worker: _Worker, pending: _Pending) -> None:
        """End a worker whose file took too long; what becomes of it is seen then."""
        pending.is_late = True
        worker.dismiss(self._settings.worker_grace)

    async def _take_care(self) -> None:
        """Start one worker, and see it through to its end."""
        try:
            worker = await self._start()
        except OSError as error:
            self._starting -= 1
            self._fail(f"its worker cannot be started: {error}")
            return
        self._workers.add(worker)
        worker.requests.write(encode(self._task))
        if self._stopped:
            worker.dismiss(self._settings.worker_grace)
        listening = asyncio.create_task(self._listen(worker))
        code = await worker.process.wait()
        self._workers.discard(worker)
        worker.stop_timer()
        # What the task started and did not end goes with it.
        worker.kill()
        await asyncio.wait({listening}, timeout=LAST_WORDS_S)
        listening.cancel()
        worker.requests.close()
        if not worker.ready:
            self._starting -= 1
        self._see_off(worker, code)

    async def _start(self) -> _Worker:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as log:
            log_start = log.tell()
            try:
                process = await self._spawn(log, theirs.fileno())
            except OSError:
                ours.close()
                raise
        streams = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        return _Worker(process, *streams, log_start)

    async def _spawn(
        self,
        log: BinaryIO,
        descriptor: int,
    ) -> asyncio.subprocess.Process:
        commands, python = [*self._task.setup_commands], sys.executable
        if commands:
            # That of the environment they activate, and ours when they activate none.
            python = "python"
            # The files' paths start here, wherever the commands went.
            commands.append(f"cd {shlex.quote(str(self._run_dir))}")
        module = ["-P", "-m", "tigerflow.workers.worker"]
        program = [python, *module, str(descriptor), str(self._alive)]
        return await asyncio.create_subprocess_exec(
            *setup_script(commands, program),
            # Not the messages: setup commands may read and print what they like.
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
            cwd=self._run_dir,
            env=_environment(self._task.threads),
            start_new_session=True,
        )

    async def _listen(self, worker: _Worker) -> None:
        # It is reset when the worker dies with requests unread.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            async for line in worker.answers:
                self._take(worker, decode(line))
                self._dispatch()
                self._watch_idleness(worker)

    def _take(self, worker: _Worker, message: Message) -> None:
        match message:
            case Ready():
                worker.ready = True
                self._starting -= 1
            case SetupFailed(reason):
                self._fail(f"its setup failed: {reason}")
            case TeardownFailed(reason):
                self.problems.append(
                    f"task {self._task.name!r}: teardown failed: {reason} "
                    f"(see {self._log})",
                )
            case Answer() as answer:
                worker.in_flight.pop(answer.id).settle(answer)
            case _:
                pass

    def _watch_idleness(self, worker: _Worker) -> None:
        if worker.ready and not worker.in_flight and worker.timer is None:
            loop = asyncio.get_running_loop()
            worker.timer = loop.call_later(
                self._settings.worker_idle_timeout,
                worker.dismiss,
                self._settings.worker_grace,
            )

    def _see_off(self, worker: _Worker, code: int) -> None:
        """Settle the files that a worker had in hand when it ended."""
        if not (worker.ready or worker.leaving or self.failure):
            self._see_early_end(worker, code)
        if worker.leaving and code < 0:
            self.problems.append(
                f"task {self._task.name!r}: a worker {_how_it_ended(code)} before its "
                f"teardown was done; it has {self._settings.worker_grace} s for it",
            )
        jobs = [pending.job for pending in worker.in_flight.values()]
        for directory in {self._run_dir / job.output.parent for job in jobs}:
            remove_temporaries_of(directory, worker.process.pid)
        in_flight = list(worker.in_flight.values())
        late = any(pending.is_late for pending in in_flight)
        for pending in reversed(in_flight):
            pending.stop_timer()
            if pending.is_late:
                message = timeout_message(self._task.timeout)
                self._blame(worker, pending, "TimeoutError", message)
            elif late:
                # It only was in the company of the one that took too long.
                self._put_back(pending)
            elif worker.leaving:
                pending.settle(Answer(0, Fate.UNDONE, _GIVEN_UP))
            else:
                self._see_death(worker, pending, code)

    def _see_early_end(self, worker: _Worker, code: int) -> None:
        """Stop the task: a worker ended in the setup commands, or died in setup."""
        if code < 0 and self._early_deaths < self._retries:
            # Killed from outside, perhaps; the files that wait get a fresh one.
            self._early_deaths += 1
            return
        ending = f"{_how_it_ended(code)} before it was ready"
        self._fail(f"its worker {ending}{self._last_line(worker)}")

    def _put_back(self, pending: _Pending) -> None:
        if not pending.answer.done():
            self._waiting.appendleft(pending)

    def _see_death(self, worker: _Worker, pending: _Pending, code: int) -> None:
        name = printable(pending.job.input.name)
        others = len(worker.in_flight) - 1
        company = f" and {others} other files" if others else ""
        message = f"the worker {_how_it_ended(code)} while processing {name}{company}"
        pending.deaths += 1
        if pending.deaths > self._retries:
            self._blame(worker, pending, "WorkerDied", message)
            return
        logger.warning("[{}] {}; it is tried again", self._task.name, message)
        self._put_back(pending)

    def _blame(
        self,
        worker: _Worker,
        pending: _Pending,
        exception_type: str,
        message: str,
    ) -> None:
        job = pending.job
        record = ErrorRecord(
            file=job.input.name,
            timestamp=datetime.now(UTC).isoformat(),
            exception_type=exception_type,
            message=message,
            traceback="",
            task=self._task.name,
            printed=self._tail(worker),
        )
        try:
            write_error(job, record, self._run_dir)
        except OutputDirectoryError as error:
            pending.settle(Answer(0, Fate.BLOCKED, str(error)))
            return
        if exception_type == "TimeoutError":
            message = f"{printable(job.input.name)} failed: {exception_type}: {message}"
        message = f"{message} (see {job.error})"
        pending.settle(Answer(0, Fate.FAILED, message))

    def _fail(self, reason: str) -> None:
        self.failure = (
            f"task {self._task.name!r} cannot run: {reason} (see {self._log})"
        )
        self._dispatch()

    def _tail(self, worker: _Worker) -> str:
        """Return the last of what was written to the log since the worker started."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(worker.log_start, end - 4 * PRINTED_TAIL))
            return log.read().decode(errors="replace")[-PRINTED_TAIL:]
        return ""

    def _last_line(self, worker: _Worker) -> str:
        lines = self._tail(worker).strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"was killed by signal {-code} ({name})"


def _environment(threads: int) -> Mapping[str, str]:
    environment = launch_environment()
    for variable in _THREAD_VARIABLES:
        environment.pop(variable, None)
        if threads:
            environment[variable] = str(threads)
    return environment
