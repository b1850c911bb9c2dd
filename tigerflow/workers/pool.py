"""The workers of one task: start them when files wait, replace them when they die."""

import asyncio
import contextlib
import math
import time
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
    NoRoomError,
    log_size,
    log_tail,
)
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    Left,
    Message,
    Ready,
    Reason,
    SetupFailed,
    Started,
    TeardownFailed,
    WorkerTask,
)

#: For how many seconds a worker has files in hand, when they are short, and how many at
#: the most: on this host, and far away, where the next takes longer to come.
AHEAD_S, MOST_AHEAD = 0.02, 8
REMOTE_AHEAD_S, REMOTE_MOST_AHEAD = 2.0, 64

#: Over about how many files their time is averaged.
AVERAGED_OVER = 10

#: How often a file is begun whose worker's wall time is over before it is done.
MOST_CUTS = 3

#: The share of a worker's time that a file must have had for the time to be too short.
MOST_OF_IT = 0.8

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
    #: How often a worker's wall time was over under it, and how long it ran then.
    cuts: int = 0
    cut_s: float = 0.0
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
    started: bool = False
    ready: bool = False
    #: Asked to end; gets no more files.
    leaving: bool = False
    #: Its last word, when it ends of its own accord.
    left: Left | None = None
    #: When it must have ended, in seconds since the epoch; None is never.
    ends_at: float | None = None
    #: How many files it has finished.
    finished: int = 0
    #: Seconds since the epoch: when it was ready, and when it began the file in hand.
    ready_at: float = 0.0
    began: float = 0.0
    in_flight: dict[int, _Pending] = field(default_factory=dict)
    #: Runs while it has no file, then while it tears down.
    timer: asyncio.TimerHandle | None = None

    def dismiss(self, grace_s: int) -> None:
        """End its input: it gives up what it has in hand, tears down and ends."""
        if self.leaving:
            return
        self.leaving = True
        self.stop_timer()
        loop = asyncio.get_running_loop()
        patience_s = grace_s + self.link.notice_s
        self.timer = loop.call_later(patience_s, self.link.kill)
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
        #: How long files have taken, in seconds: the last ones, and the longest.
        self._average_s: float | None = None
        self._longest_s = 0.0
        #: How many workers were killed before they were ready.
        self._early_deaths = 0
        self._stopped = False
        #: Why no more files are taken.
        self._refusal: str | None = None
        #: Why the task cannot run, once that is known.
        self.failure: str | None = None
        #: Of what its setup has raised, if that is why.
        self.failure_traceback = ""
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
    def most_workers(self) -> int:
        """Up to how many workers it may have."""
        return self._task.workers

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
        closing = asyncio.create_task(self._launcher.close())
        if self._caretakers:
            await asyncio.wait(self._caretakers)
        await closing

    def kill(self) -> list[int]:
        """Kill all workers at once, without teardown; return their process ids.

        From any thread: the loop may go on, but starts no others in their place.
        """
        self._refusal = _GIVEN_UP
        workers = list(self._workers)
        for worker in workers:
            worker.leaving = True
        links = [worker.link for worker in workers]
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
        while self._waiting and (worker := self._choose(self._waiting[0])):
            self._give(worker, self._waiting.popleft())
        self._dismiss_spent()
        self._start_workers()
        for worker in self._workers:
            self._watch_idleness(worker)

    def _start_workers(self) -> None:
        """Start as many workers as are needed, and fill the jobs that they share."""
        share = self._task.workers_per_job if self._task.remote else 1
        started = 0
        while self._needs_another() or (started % share and self._has_place):
            started += 1
            self._starting += 1
            caretaker = asyncio.create_task(self._take_care())
            self._caretakers.add(caretaker)
            caretaker.add_done_callback(self._release)

    def _dismiss_spent(self) -> None:
        """Have fresh workers take the places of those with too little time left."""
        if not self._waiting:
            return
        for worker in self._workers:
            is_idle = worker.ready and not (worker.in_flight or worker.leaving)
            if is_idle and not self._can_finish(worker, self._waiting[0]):
                worker.dismiss(self._settings.worker_grace)

    def _choose(self, pending: _Pending) -> _Worker | None:
        """Return the worker that has the least to do of those that may take a file."""
        able = [each for each in self._workers if self._has_room(each, pending)]
        return min(able, key=lambda worker: len(worker.in_flight), default=None)

    def _needs_another(self) -> bool:
        expected = self._starting * self._task.concurrency_limit
        return self._has_place and len(self._waiting) > expected

    @property
    def _has_place(self) -> bool:
        return len(self._caretakers) < self._task.workers

    def _release(self, caretaker: asyncio.Task[None]) -> None:
        self._caretakers.discard(caretaker)
        # Its place is free only now: files may have waited for a fresh worker.
        self._dispatch()

    def _has_room(self, worker: _Worker, pending: _Pending) -> bool:
        in_flight = worker.in_flight.values()
        # A file that may have killed a worker has one for itself.
        alone = pending.deaths or any(other.deaths for other in in_flight)
        limit = 1 if alone else self._depth
        is_open = worker.ready and not (worker.leaving or worker.left)
        if not is_open or len(in_flight) >= limit:
            return False
        return self._can_finish(worker, pending)

    @property
    def _depth(self) -> int:
        """How many files a worker has in hand at the most.

        It has some more than it works on, when they are short, so that it need not wait
        for the next.
        """
        limit = self._task.concurrency_limit
        if self._average_s is None or (self._is_shared and not self._task.remote):
            return limit
        ahead_s, most = AHEAD_S, MOST_AHEAD
        if self._task.remote:
            ahead_s, most = REMOTE_AHEAD_S, REMOTE_MOST_AHEAD
        return limit * math.ceil(ahead_s / max(self._average_s, ahead_s / most))

    def _can_finish(self, worker: _Worker, pending: _Pending) -> bool:
        """Tell whether there is time for it, by how long files have taken so far."""
        if worker.ends_at is None or not worker.finished:
            # It never has more time than a fresh one.
            return True
        needed_s = max(self._longest_s, 2 * pending.cut_s)
        left_s = worker.ends_at - time.time() - self._settings.worker_wall_time_grace
        return left_s >= needed_s

    def _give(self, worker: _Worker, pending: _Pending) -> None:
        worker.stop_timer()
        self._next_id += 1
        worker.in_flight[self._next_id] = pending
        job = pending.job
        paths = (str(job.input), str(job.output), str(job.error))
        if len(worker.in_flight) == 1:
            # What it prints from here on is this file's, and that of its company.
            worker.log_start = log_size(worker.link.log)
            worker.began = time.time()
        worker.link.send(FileRequest(self._next_id, *paths))
        if self._is_shared or len(worker.in_flight) == 1:
            self._start_timer(worker, pending)

    def _start_timer(self, worker: _Worker, pending: _Pending) -> None:
        """Count the time of a file that is being worked on."""
        if self._task.timeout is None:
            return
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
            self._see_no_start(error)
            return
        worker = _Worker(link, link.log_start)
        self._workers.add(worker)
        if self._stopped or self.failure:
            worker.dismiss(self._settings.worker_grace)
        listening = asyncio.create_task(self._listen(worker))
        ending = await link.wait()
        self._workers.discard(worker)
        worker.stop_timer()
        listening.cancel()
        if not worker.ready:
            self._starting -= 1
        self._see_off(worker, ending)
        self._dispatch()
        # Till then, it counts as one of the workers there may be.
        await link.gone()

    def _see_no_start(self, error: LaunchError) -> None:
        if isinstance(error, NoRoomError):
            # Not the task's fault, nor that of its files: they come again.
            while self._waiting:
                self._waiting.popleft().settle(Answer(0, Fate.BLOCKED, str(error)))
        elif not self._stopped:
            self._fail(f"its worker cannot be started: {error}")

    async def _listen(self, worker: _Worker) -> None:
        async for message in worker.link.receive():
            self._take(worker, message)
            self._dispatch()

    def _take(self, worker: _Worker, message: Message) -> None:
        match message:
            case Ready():
                self._take_ready(worker)
            case SetupFailed(reason, trace):
                self.failure_traceback = trace
                self._fail(f"its setup failed: {reason}")
            case TeardownFailed(reason):
                self.problems.append(
                    f"task {self._task.name!r}: teardown failed: {reason} "
                    f"(see {self._log})",
                )
            case Started() as started:
                self._take_start(worker, started)
            case Answer() as answer:
                self._take_answer(worker, answer)
            case Left() as left:
                worker.left = left
            case _:
                pass

    def _take_start(self, worker: _Worker, started: Started) -> None:
        worker.ends_at = started.ends_at
        worker.started = True
        if not worker.leaving:
            worker.stop_timer()
            worker.timer = asyncio.get_running_loop().call_later(
                self._settings.slurm_task_worker_startup_timeout,
                self._end_slow_start,
                worker,
            )

    def _take_ready(self, worker: _Worker) -> None:
        if not worker.leaving:
            worker.stop_timer()
        worker.ready = True
        worker.ready_at = time.time()
        self._starting -= 1
        self._early_deaths = 0

    def _take_answer(self, worker: _Worker, answer: Answer) -> None:
        worker.in_flight.pop(answer.id).settle(answer)
        worker.finished += 1
        worker.began = time.time()
        if answer.started:
            self._longest_s = max(self._longest_s, answer.seconds)
            before = answer.seconds if self._average_s is None else self._average_s
            self._average_s = before + (answer.seconds - before) / AVERAGED_OVER
        following = next(iter(worker.in_flight.values()), None)
        if following is not None and not self._is_shared:
            self._start_timer(worker, following)

    def _end_slow_start(self, worker: _Worker) -> None:
        timeout_s = self._settings.slurm_task_worker_startup_timeout
        self._fail(f"its setup took longer than {timeout_s} s")
        worker.dismiss(self._settings.worker_grace)

    def _watch_idleness(self, worker: _Worker) -> None:
        """Let a worker go that has long had no file; also one that has yet to start."""
        if worker.leaving or worker.in_flight:
            return
        if worker.started and not worker.ready:
            # It sets up; another timer runs.
            return
        if not worker.ready and self._waiting:
            worker.stop_timer()
        elif worker.timer is None and (worker.ready or self._task.remote):
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
            begun = self._is_shared or pending is in_flight[0]
            if pending.is_late:
                message = timeout_message(self._task.timeout)
                self._blame(worker, pending, "TimeoutError", message)
            elif late or not (begun or worker.leaving):
                # It was only in the company of the one that was worked on.
                self._put_back(pending)
            else:
                self._see_interrupted(worker, pending, ending)

    def _see_interrupted(
        self, worker: _Worker, pending: _Pending, ending: Ending
    ) -> None:
        if worker.leaving:
            pending.settle(Answer(0, Fate.UNDONE, _GIVEN_UP))
        elif worker.left is None or worker.left.why is Reason.ENDED:
            self._see_death(worker, pending, ending)
        elif worker.left.why is Reason.WALL_TIME:
            self._see_cut(worker, pending)
        else:
            self._put_back(pending)

    def _see_cut(self, worker: _Worker, pending: _Pending) -> None:
        """Try a file again that a worker gave up at the end of its time."""
        ran_s = time.time() - worker.began
        pending.cuts += 1
        pending.cut_s = max(pending.cut_s, ran_s)
        ends_at = worker.ends_at or time.time()
        had_s = ends_at - self._settings.worker_wall_time_grace - worker.ready_at
        if ran_s < MOST_OF_IT * had_s and pending.cuts < MOST_CUTS:
            name = printable(pending.job.input.name)
            logger.info("[{}] {} goes to a fresh worker", self._task.name, name)
            self._put_back(pending)
            return
        message = (
            f"{printable(pending.job.input.name)} was not done when the wall time of "
            f"its worker was over, {pending.cut_s:.0f} s after it was begun; give the "
            "task's worker_resources more time"
        )
        self._blame(worker, pending, "WallTimeOver", message)

    def _see_early_end(self, worker: _Worker, ending: Ending) -> None:
        """Stop the task: a worker ended in the setup commands, or died in setup."""
        if ending.is_outage:
            return
        if worker.left and worker.left.why is Reason.WALL_TIME:
            self._fail(
                "its setup was not done when the wall time of its worker was over"
            )
            return
        is_killed = ending.is_killed or worker.left is not None
        if is_killed and self._early_deaths < self._retries:
            # Killed from outside, perhaps; the files that wait get a fresh one.
            self._early_deaths += 1
            return
        if not ending.has_started:
            self._fail(f"its worker could not start: {ending.how}")
            return
        said = self._last_line(worker)
        self._fail(f"its worker {ending.how} before it was ready{said}")

    def _put_back(self, pending: _Pending) -> None:
        if not pending.answer.done():
            self._waiting.appendleft(pending)

    def _see_death(self, worker: _Worker, pending: _Pending, ending: Ending) -> None:
        name = printable(pending.job.input.name)
        # Those that were handed over ahead were not even begun.
        others = len(worker.in_flight) - 1 if self._is_shared else 0
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
        for worker in self._workers:
            if not worker.ready:
                worker.dismiss(self._settings.worker_grace)
        self._dispatch()

    def _last_line(self, worker: _Worker) -> str:
        lines = log_tail(worker.link.log, worker.log_start).strip().splitlines()
        return f": {lines[-1]}" if lines else ""
