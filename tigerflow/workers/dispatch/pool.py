"""The workers of one task: start them when files wait, replace them when they die."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tigerflow.files import see_anew, see_gone
from tigerflow.log import logger
from tigerflow.rundir.layout import RunLayout
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.aftermath import GIVEN_UP, Aftermath
from tigerflow.workers.dispatch.link import (
    Ending,
    Launcher,
    LaunchError,
    NoRoomError,
    log_size,
)
from tigerflow.workers.dispatch.members import (
    PoolFile,
    PoolWorker,
    WorkerListener,
    WorkerState,
)
from tigerflow.workers.dispatch.pace import Pace
from tigerflow.workers.dispatch.starts import Cause, FailedStart, Starts
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    HandedBack,
    Left,
    Message,
    Ready,
    Recall,
    SetupFailed,
    Started,
    TeardownFailed,
)


@dataclass(frozen=True)
class Load:
    """What the workers of a task have in hand."""

    #: Live ones, those that set up included.
    workers: int = 0
    ready: int = 0
    busy: int = 0
    #: Stems of the files that they work on, with the number of the worker.
    running: Mapping[str, int] = field(default_factory=dict)


def _nobody(_task: str, _worker: int, _state: WorkerState, _note: str) -> None:
    """Listen to nothing."""


class TaskPool:
    """The workers of one task in one run directory.

    A file under which a worker died is tried again: see `aftermath`. When no worker can
    start, the task stops: no file is blamed, and none is tried again in this pool; see
    `starts`.
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
        self._launcher = launcher
        self._settings = settings
        self._run_dir = run_dir
        layout = RunLayout(run_dir)
        self._log = layout.task_log(task.name)
        #: Of submissions: what a job is about that never started is told there.
        self._jobs_log = layout.jobs_log
        self._waiting: deque[PoolFile] = deque()
        #: By output: files that wait, and those that workers have.
        self._files: dict[Path, PoolFile] = {}
        self._workers: set[PoolWorker] = set()
        self._caretakers: set[asyncio.Task[None]] = set()
        #: How many are being launched: these have no link yet.
        self._launching = 0
        self._launched = 0
        self._next_id = 0
        #: How many files have come.
        self._came = 0
        #: Told what becomes of workers.
        self.on_worker: WorkerListener = _nobody
        self._pace = Pace(task, settings)
        self._aftermath = Aftermath(task, run_dir, settings, retries, self._put_back)
        self._starts = Starts(attempts=retries + 1)
        #: Runs while no worker is started, since the last one failed to.
        self._start_pause: asyncio.TimerHandle | None = None
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

    async def process(self, job: FileJob, place: int | None = None) -> Answer:
        """Process one file and return what became of it.

        Of files that wait, the one with the first `place` is begun first; without
        places, the one that came first.

        Cancelling gives up a file that still waits; one in flight goes on.
        """
        file = self._files.get(job.output)
        if file is None or file.answer.done():
            self._came += 1
            file = self._add(job, self._came if place is None else place)
        file.waiters += 1
        try:
            # Its window may have died: then it is asked for again, and is done once.
            answer = await asyncio.shield(file.answer)
            if self._task.remote:
                # Whoever is told of it looks for its results on this host.
                await in_thread(self._see_results, job, answer)
            return answer
        finally:
            file.waiters -= 1
            if not (file.waiters or file.answer.done()) and file in self._waiting:
                self._waiting.remove(file)
                file.answer.cancel()

    def _see_results(self, job: FileJob, answer: Answer) -> None:
        output, error = self._run_dir / job.output, self._run_dir / job.error
        if answer.fate is Fate.DONE:
            see_anew(output)
            see_gone(error)
        elif answer.fate is Fate.FAILED:
            see_anew(error)
            see_gone(output)

    def _add(self, job: FileJob, place: int) -> PoolFile:
        loop = asyncio.get_running_loop()
        file = PoolFile(job, loop.create_future(), place)
        self._files[job.output] = file
        file.answer.add_done_callback(lambda _: self._forget(file))
        self._enqueue(file)
        if self._task.remote and self.failure is None:
            reason = self._settings.no_time_problem(self._task.wall_time)
            if reason is not None:
                self.fail(reason)
        if self._task.batch_size > 1:
            # Others that come at this moment may be in the same call.
            loop.call_soon(self._dispatch)
        else:
            self._dispatch()
        return file

    def _forget(self, file: PoolFile) -> None:
        if self._files.get(file.job.output) is file:
            del self._files[file.job.output]

    @property
    def load(self) -> Load:
        """What its workers have in hand."""
        workers, ending = self._workers, self._task.output_ext
        return Load(
            workers=len(workers),
            ready=sum(worker.ready for worker in workers),
            busy=sum(bool(worker.in_flight) for worker in workers),
            running={
                file.job.output.name.removesuffix(ending): worker.number
                for worker in workers
                for file in worker.at_work(self._task.concurrency_limit)
            },
        )

    @property
    def most_in_hand(self) -> int:
        """Up to how many files keep all workers busy that it may have."""
        return self._task.workers * self._pace.most_in_hand

    @property
    def is_crowded(self) -> bool:
        """Whether it has more files than all workers it may have take at once."""
        in_hand = sum(len(worker.in_flight) for worker in self._workers)
        limit = self._task.workers * self._pace.files_at_once
        return len(self._waiting) + in_hand > limit

    def drain(self) -> None:
        """Hand back the files that wait; those in hand are finished."""
        self._refusal = GIVEN_UP
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
        self._refusal = GIVEN_UP
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
        while self._waiting and (able := self._able(self._waiting[0])):
            worker = min(able, key=lambda worker: len(worker.in_flight))
            self._give(worker, self._take_call(len(able)))
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
            self._launching += 1
            caretaker = asyncio.create_task(self._take_care())
            self._caretakers.add(caretaker)
            caretaker.add_done_callback(self._release)

    def _dismiss_spent(self) -> None:
        """Have fresh workers take the places of those with too little time left."""
        if not self._waiting:
            return
        for worker in self._workers:
            is_idle = worker.ready and not (worker.in_flight or worker.leaving)
            if is_idle and not self._pace.can_finish(worker, self._waiting[0]):
                worker.dismiss(self._settings.worker_grace)

    def _able(self, file: PoolFile) -> list[PoolWorker]:
        """Return the workers that may take a file."""
        return [each for each in self._workers if self._pace.has_room(each, file)]

    def _take_call(self, workers: int) -> list[PoolFile]:
        """Take the files of one call from those that wait, which so many workers share.

        Nothing is waited for.
        """
        share = math.ceil(len(self._waiting) / workers)
        call = [self._waiting.popleft()]
        while (
            len(call) < min(share, self._task.batch_size)
            and not call[0].goes_alone
            and not self._waiting[0].goes_alone
        ):
            call.append(self._waiting.popleft())
        return call

    def _needs_another(self) -> bool:
        if self._start_pause is not None:
            return False
        coming = self._launching + sum(worker.is_coming for worker in self._workers)
        expected = coming * self._pace.files_at_once
        return self._has_place and len(self._waiting) > expected

    @property
    def _has_place(self) -> bool:
        return len(self._caretakers) < self._task.workers

    def _release(self, caretaker: asyncio.Task[None]) -> None:
        self._caretakers.discard(caretaker)
        if not caretaker.cancelled() and (error := caretaker.exception()) is not None:
            # A bug; the files that wait must not wait for ever.
            logger.opt(exception=error).error("[{}] internal error", self._task.name)
            self.fail(f"internal error: {error!r}")
        # Its place is free only now: files may have waited for a fresh worker.
        self._dispatch()

    def _give(self, worker: PoolWorker, files: list[PoolFile]) -> None:
        """Hand over the files of one call."""
        worker.stop_timer()
        is_begun = self._is_shared or not worker.in_flight
        if not worker.in_flight:
            # What it prints from here on is these files', and that of their company.
            worker.log_start = log_size(worker.link.log)
            worker.began = time.time()
        call = self._next_id + 1
        for file in files:
            self._next_id += 1
            worker.in_flight[self._next_id] = file
            file.call, file.call_size = call, len(files)
            job = file.job
            paths = (str(job.input), str(job.output), str(job.error))
            more = file is not files[-1]
            worker.link.send(FileRequest(self._next_id, *paths, more))
        if is_begun:
            self._start_timer(worker, files[0])
        self._watch_ahead(worker)

    def _watch_ahead(self, worker: PoolWorker) -> None:
        """Look again at a worker that has calls ahead."""
        if worker.ahead_timer is None and worker.calls > self._task.concurrency_limit:
            worker.ahead_timer = asyncio.get_running_loop().call_later(
                self._pace.patience_s, self._see_ahead, worker
            )

    def _see_ahead(self, worker: PoolWorker) -> None:
        """Call back what waits behind a long file, when others can take it."""
        worker.ahead_timer = None
        if not worker.is_open or worker not in self._workers:
            return
        others_can = self._has_place or any(
            each.is_open and not each.in_flight for each in self._workers
        )
        if self._pace.is_at_a_long_one(worker) and others_can and not self._waiting:
            worker.link.send(Recall())
        self._watch_ahead(worker)

    def _start_timer(self, worker: PoolWorker, file: PoolFile) -> None:
        """Count the time of a call that is being worked on, by one of its files."""
        if self._task.timeout is None:
            return
        limit_s = self._task.timeout * file.call_size
        if self._is_shared:
            # An async worker cancels the run itself, unless something blocks its loop,
            # and goes on with the first of its files.
            limit_s += self._settings.worker_grace
            limit_s += self._task.timeout if file.call_size > 1 else 0
        file.stop_timer()
        file.timer = asyncio.get_running_loop().call_later(
            limit_s, self._end_late, worker, file
        )

    @property
    def _is_shared(self) -> bool:
        return self._task.concurrency_limit > 1

    def _end_late(self, worker: PoolWorker, file: PoolFile) -> None:
        """End a worker whose file took too long; what becomes of it is seen then."""
        for other in worker.in_flight.values():
            other.is_late = other.is_late or other.call == file.call
        worker.is_late = True
        worker.dismiss(self._settings.worker_grace)

    async def _take_care(self) -> None:
        """Start one worker, and see it through to its end."""
        try:
            link = await self._launcher.launch()
        except LaunchError as error:
            self._see_no_start(error)
            return
        finally:
            self._launching -= 1
        self._launched += 1
        worker = PoolWorker(link, self._launched, link.log_start)
        self._workers.add(worker)
        self._tell(worker, WorkerState.LAUNCHED)
        if self._stopped or self.failure:
            worker.dismiss(self._settings.worker_grace)
        listening = asyncio.create_task(self._listen(worker))
        ending = await link.wait()
        self._workers.discard(worker)
        self._tell(worker, WorkerState.ENDED, ending.how)
        worker.stop_timer()
        listening.cancel()
        self._see_off(worker, ending)
        self._dispatch()
        # Till then, it counts as one of the workers there may be.
        await link.gone()

    def _tell(self, worker: PoolWorker, state: WorkerState, note: str = "") -> None:
        self.on_worker(self._task.name, worker.number, state, note)

    def _see_no_start(self, error: LaunchError) -> None:
        if isinstance(error, NoRoomError):
            # Not the task's fault, nor that of its files: they come again.
            while self._waiting:
                answer = Answer(0, Fate.BLOCKED, str(error), is_outage=error.is_outage)
                self._waiting.popleft().settle(answer)
        elif not self._stopped:
            self.fail(f"its worker cannot be started: {error}")

    async def _listen(self, worker: PoolWorker) -> None:
        try:
            async for message in worker.link.receive():
                self._take(worker, message)
                self._dispatch()
        except Exception:  # noqa: BLE001 -- its files must not wait for ever
            logger.exception("Cannot understand a worker of {}", self._task.name)
            worker.link.kill()

    def _take(self, worker: PoolWorker, message: Message) -> None:
        match message:
            case Ready():
                self._take_ready(worker)
            case SetupFailed(reason, trace, is_shortage):
                cause = Cause.SHORTAGE if is_shortage else Cause.REFUSED
                failed = FailedStart(
                    "its setup failed", reason, cause, worker.node, trace
                )
                self._see_failed_start(worker, failed)
            case TeardownFailed(reason):
                self.problems.append(
                    f"task {self._task.name!r}: teardown failed: {reason} "
                    f"(see {self._log})",
                )
            case Started() as started:
                self._take_start(worker, started)
            case Answer() as answer:
                self._take_answer(worker, answer)
            case HandedBack(ids):
                self._take_back(worker, ids)
            case Left() as left:
                worker.left = left
            case _:
                pass

    def _take_start(self, worker: PoolWorker, started: Started) -> None:
        worker.ends_at = started.ends_at
        worker.started, worker.node = True, started.node or started.host
        self._tell(worker, WorkerState.STARTED, started.host)
        if not worker.leaving:
            worker.stop_timer()
            worker.timer = asyncio.get_running_loop().call_later(
                self._settings.slurm_task_worker_startup_timeout,
                self._end_slow_start,
                worker,
            )

    def _take_ready(self, worker: PoolWorker) -> None:
        if not worker.leaving:
            worker.stop_timer()
        worker.ready = True
        self._tell(worker, WorkerState.READY)
        worker.ready_at = time.time()
        self._starts.note_ready()

    def _take_answer(self, worker: PoolWorker, answer: Answer) -> None:
        answered = worker.in_flight.pop(answer.id)
        answered.settle(replace(answer, worker=worker.number))
        worker.finished += 1
        worker.began = time.time()
        self._pace.note(answer)
        if self._task.timeout is not None:
            self._time_following(worker, answered)

    def _take_back(self, worker: PoolWorker, ids: list[int]) -> None:
        for number in reversed(ids):
            file = worker.in_flight.pop(number)
            file.stop_timer()
            self._put_back(file)

    def _time_following(self, worker: PoolWorker, answered: PoolFile) -> None:
        """Count the time of the file that comes after another."""
        for file in worker.in_flight.values():
            # The files of a call whose `run_batch` has raised come one by one.
            if not self._is_shared or file.call == answered.call:
                self._start_timer(worker, file)
                return

    def _end_slow_start(self, worker: PoolWorker) -> None:
        timeout_s = self._settings.slurm_task_worker_startup_timeout
        what = f"its setup took longer than {timeout_s} s"
        self._see_failed_start(worker, FailedStart(what, "", node=worker.node))
        worker.dismiss(self._settings.worker_grace)

    def _watch_idleness(self, worker: PoolWorker) -> None:
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

    def _see_off(self, worker: PoolWorker, ending: Ending) -> None:
        """Take note of how a worker has ended."""
        if worker.is_early and not self.failure:
            failed = self._aftermath.failed_start(worker, ending)
            if failed is not None:
                is_unborn = self._task.remote and not ending.has_started
                log = self._jobs_log if is_unborn else self._log
                self._see_failed_start(worker, failed, log)
        if worker.leaving and ending.is_killed:
            self.problems.append(
                f"task {self._task.name!r}: a worker {ending.how} before its "
                f"teardown was done; it has {self._settings.worker_grace} s for it",
            )
        self._aftermath.settle_files(worker, ending)

    def _see_failed_start(
        self, worker: PoolWorker, failed: FailedStart, log: Path | None = None
    ) -> None:
        """Have the task stop, or go on with others, when a worker cannot start."""
        worker.has_failed = True
        others = self._workers - {worker}
        reason = self._starts.take(
            failed, worker.number, self._launched, hope=any(map(self._is_hope, others))
        )
        if reason is not None:
            self.failure_traceback = failed.trace
            self.fail(reason, log)
            return
        if failed.cause is Cause.CHANCE:
            # Another takes its place at once.
            return
        if failed.cause is not Cause.EVICTED:
            self._launcher.avoid(failed.node)
        self._pause_starts(failed, log)

    def _is_hope(self, worker: PoolWorker) -> bool:
        """Tell whether a worker shows that the task can run, or soon may."""
        if self._starts.has_succeeded:
            return worker.is_open
        return worker.is_open or (worker.is_coming and worker.has_begun)

    def _pause_starts(self, failed: FailedStart, log: Path | None) -> None:
        pause_s = self._starts.pause_s
        logger.warning(
            "[{}] {} (see {}); no other worker is started for {:.0f} s",
            *(self._task.name, failed.sentence_with_node, log or self._log, pause_s),
        )
        if self._start_pause is None:
            loop = asyncio.get_running_loop()
            self._start_pause = loop.call_later(pause_s, self._end_start_pause)

    def _end_start_pause(self) -> None:
        self._start_pause = None
        self._dispatch()

    def _put_back(self, file: PoolFile) -> None:
        if file.waiters and not file.answer.done():
            self._enqueue(file)

    def _enqueue(self, file: PoolFile) -> None:
        # Most come in their order.
        place = len(self._waiting)
        while place and self._waiting[place - 1].place > file.place:
            place -= 1
        self._waiting.insert(place, file)

    def fail(self, reason: str, log: Path | None = None) -> None:
        """Stop the task, which cannot run; the files that wait get an answer."""
        self.failure = (
            f"task {self._task.name!r} cannot run: {reason} (see {log or self._log})"
        )
        for worker in self._workers:
            if not worker.ready:
                worker.dismiss(self._settings.worker_grace)
        self._dispatch()
