"""The workers of one task: start them when files wait, replace them when they die."""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tigerflow.errors import OutputDirectoryError
from tigerflow.layout import RunLayout
from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.settings import Settings
from tigerflow.tasks.execution import ErrorRecord, FileJob, write_error
from tigerflow.tasks.serving import timeout_message
from tigerflow.workers.link import (
    Ending,
    Launcher,
    LaunchError,
    Link,
    log_size,
    log_tail,
)
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    Message,
    Ready,
    SetupFailed,
    TeardownFailed,
    WorkerTask,
)

_GIVEN_UP = "given up: the run has ended"


@dataclass(frozen=True)
class Load:
    """What the workers of a task have in hand."""

    #: Live ones, those that set up included.
    workers: int = 0
    ready: int = 0
    busy: int = 0
    #: Stems of files.
    in_flight: frozenset[str] = frozenset()


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
    link: Link
    #: How long its log was when it began what it has in hand.
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
        self.timer = asyncio.get_running_loop().call_later(grace_s, self.link.kill)
        self.link.close()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class TaskPool:
    """The workers of one task in one run directory.

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
        launcher: Launcher,
        retries: int = 0,
    ) -> None:
        """Serve `task` in `run_dir`; workers start with the first file.

        A file is tried again up to `retries` times when its worker dies.
        """
        self._task = task
        self._run_dir = run_dir
        self._launcher = launcher
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
    def load(self) -> Load:
        """What its workers have in hand."""
        workers, ending = self._workers, self._task.output_ext
        return Load(
            workers=len(workers),
            ready=sum(worker.ready for worker in workers),
            busy=sum(bool(worker.in_flight) for worker in workers),
            in_flight=frozenset(
                pending.job.output.name.removesuffix(ending)
                for worker in workers
                for pending in worker.in_flight.values()
            ),
        )

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
        links = [worker.link for worker in self._workers]
        for link in links:
            link.kill()
        return [link.pid for link in links if link.pid is not None]

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
        paths = (str(job.input), str(job.output), str(job.error))
        if len(worker.in_flight) == 1:
            # What it prints from here on is this file's, and that of its company.
            worker.log_start = log_size(worker.link.log)
        worker.link.send(FileRequest(self._next_id, *paths))
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
            link = await self._launcher.launch()
        except LaunchError as error:
            self._starting -= 1
            self._fail(f"its worker cannot be started: {error}")
            return
        worker = _Worker(link, link.log_start)
        self._workers.add(worker)
        if self._stopped:
            worker.dismiss(self._settings.worker_grace)
        listening = asyncio.create_task(self._listen(worker))
        ending = await link.wait()
        self._workers.discard(worker)
        worker.stop_timer()
        listening.cancel()
        if not worker.ready:
            self._starting -= 1
        self._see_off(worker, ending)

    async def _listen(self, worker: _Worker) -> None:
        async for message in worker.link.receive():
            self._take(worker, message)
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

    def _see_off(self, worker: _Worker, ending: Ending) -> None:
        """Settle the files that a worker had in hand when it ended."""
        if not (worker.ready or worker.leaving or self.failure):
            self._see_early_end(worker, ending)
        if worker.leaving and ending.is_killed:
            self.problems.append(
                f"task {self._task.name!r}: a worker {ending.how} before its "
                f"teardown was done; it has {self._settings.worker_grace} s for it",
            )
        jobs = [pending.job for pending in worker.in_flight.values()]
        for directory in {self._run_dir / job.output.parent for job in jobs}:
            worker.link.remove_temporaries(directory)
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
                self._see_death(worker, pending, ending)

    def _see_early_end(self, worker: _Worker, ending: Ending) -> None:
        """Stop the task: a worker ended in the setup commands, or died in setup."""
        if ending.is_killed and self._early_deaths < self._retries:
            # Killed from outside, perhaps; the files that wait get a fresh one.
            self._early_deaths += 1
            return
        said = self._last_line(worker)
        self._fail(f"its worker {ending.how} before it was ready{said}")

    def _put_back(self, pending: _Pending) -> None:
        if not pending.answer.done():
            self._waiting.appendleft(pending)

    def _see_death(self, worker: _Worker, pending: _Pending, ending: Ending) -> None:
        name = printable(pending.job.input.name)
        others = len(worker.in_flight) - 1
        company = f" and {others} other files" if others else ""
        message = f"the worker {ending.how} while processing {name}{company}"
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
            printed=log_tail(worker.link.log, worker.log_start),
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

    def _last_line(self, worker: _Worker) -> str:
        lines = log_tail(worker.link.log, worker.log_start).strip().splitlines()
        return f": {lines[-1]}" if lines else ""
