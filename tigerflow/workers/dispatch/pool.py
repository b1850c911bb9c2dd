"""Give each file of a task to a worker that has room for it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tigerflow.files import see_anew, see_gone
from tigerflow.rundir.events import WorkerState
from tigerflow.rundir.layout import RunLayout
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.endings import GIVEN_UP, WorkerEndings
from tigerflow.workers.dispatch.link import Ending, Launcher, NoRoomError, log_size
from tigerflow.workers.dispatch.members import (
    PoolFile,
    PoolWorker,
    WorkerListener,
    ignore,
)
from tigerflow.workers.dispatch.pace import Pace
from tigerflow.workers.dispatch.timers import CallTimers
from tigerflow.workers.dispatch.waiting import WaitingFiles
from tigerflow.workers.dispatch.workforce import Workforce
from tigerflow.workers.protocol import Answer, Fate, FileRequest, Recall


@dataclass(frozen=True)
class Load:
    """What the workers of a task are working on."""

    #: Those alive, also while they set up.
    workers: int = 0
    ready: int = 0
    busy: int = 0
    #: Stems of the files that they work on, with the number of the worker.
    running: Mapping[str, int] = field(default_factory=dict)


class TaskPool:
    """The files and the workers of one task in one run directory.

    A file whose worker dies is retried: see `endings`. When no worker can start, the
    task stops; no file is blamed, and none is retried in this pool: see `starts`.
    """

    def __init__(
        self,
        task: WorkerTask,
        run_dir: Path,
        settings: Settings,
        launcher: Launcher,
        retries: int = 0,
        on_worker: WorkerListener = ignore,
    ) -> None:
        """Serve `task` in `run_dir`; workers start with the first file.

        Args:
            task: the description of the task.
            run_dir: the run directory.
            settings: those of the service or the host.
            launcher: starts the workers.
            retries: how often a file is retried when its worker dies.
            on_worker: called with each change of a worker.
        """
        self._task = task
        self._settings = settings
        self._run_dir = run_dir
        self._waiting = WaitingFiles()
        self._on_worker = on_worker
        self._workforce = Workforce(
            *(task, RunLayout(run_dir), settings, launcher), retries + 1, self
        )
        self._next_id = 0
        self._pace = Pace(task, settings)
        self._timers = CallTimers(task, settings)
        put_back = self._waiting.put_back
        self._endings = WorkerEndings(task, run_dir, settings, retries, put_back)
        #: Why no more files are taken.
        self._refusal: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the task cannot run, once that is known."""
        return self._workforce.failure

    @property
    def failure_traceback(self) -> str:
        """The traceback of what its setup has raised, if that is why."""
        return self._workforce.failure_traceback

    @property
    def problems(self) -> list[str]:
        """What went wrong at teardown."""
        return self._workforce.problems

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a worker nor a file."""
        return self._workforce.is_idle and not self._waiting

    @property
    def load(self) -> Load:
        """What its workers are working on."""
        workers, ending = self._workforce.members, self._task.output_ext
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
        """How many files it takes to keep every allowed worker busy, at most."""
        return self._task.workers * self._pace.most_in_hand

    @property
    def is_crowded(self) -> bool:
        """Whether it has more files than all workers it may have take at once."""
        in_flight = sum(len(worker.in_flight) for worker in self._workforce.members)
        limit = self._task.workers * self._pace.files_at_once
        return len(self._waiting) + in_flight > limit

    async def process(self, job: FileJob, place: int | None = None) -> Answer:
        """Process one file and return what became of it.

        Files begin in the order of their `place`, or without places in the order in
        which they come. Cancelling gives up a file that still waits; one that a worker
        has continues.
        """
        file = self._waiting.find(job.output) or self._add(job, place)
        file.waiters += 1
        try:
            # If its window has died, it is asked for again, but processed once.
            answer = await asyncio.shield(file.answer)
            if self._task.remote:
                # The results are looked for on this host.
                await in_thread(self._see_results, job, answer)
            return answer
        finally:
            file.waiters -= 1
            if not file.waiters:
                self._waiting.give_up(file)

    def _see_results(self, job: FileJob, answer: Answer) -> None:
        output, error = self._run_dir / job.output, self._run_dir / job.error
        if answer.fate is Fate.DONE:
            see_anew(output)
            see_gone(error)
        elif answer.fate is Fate.FAILED:
            see_anew(error)
            see_gone(output)

    def _add(self, job: FileJob, place: int | None) -> PoolFile:
        file = self._waiting.add(job, place)
        if self._task.remote and self.failure is None:
            reason = self._settings.no_time_problem(self._task.wall_time)
            if reason is not None:
                self.fail(reason)
        if self._task.batch_size > 1:
            # Files that come at the same moment may share the call.
            asyncio.get_running_loop().call_soon(self.dispatch)
        else:
            self.dispatch()
        return file

    def drain(self) -> None:
        """Hand back the files that wait; those that workers have are finished."""
        self._refusal = GIVEN_UP
        self.dispatch()

    async def stop(self) -> None:
        """Stop all workers and wait for them; kill those that stay."""
        self.drain()
        await self._workforce.stop()

    def kill(self) -> list[int]:
        """Kill all workers, without teardown; return the process ids of those here.

        From any thread. The loop may continue, but starts no others in their place.
        """
        self._refusal = GIVEN_UP
        return self._workforce.kill()

    def fail(self, reason: str, log: Path | None = None) -> None:
        """Stop the task, which cannot run; the files that wait get an answer."""
        self._workforce.fail(reason, log)

    # For its workers: see `FileSide`.

    def dispatch(self) -> None:
        """Give waiting files to workers with room; start workers if there is none."""
        refusal = self._refusal or self.failure
        if refusal is not None:
            self._waiting.settle_all(Answer(0, Fate.UNDONE, refusal))
            return
        while self._waiting and (able := self._able(self._waiting.first)):
            worker = min(able, key=lambda worker: len(worker.in_flight))
            self._give(
                worker, self._waiting.take_call(len(able), self._task.batch_size)
            )
        self._stop_spent()
        self._workforce.start_workers(len(self._waiting), self._pace.files_at_once)
        self._workforce.watch_idleness(is_needed=bool(self._waiting))

    def note_change(
        self, worker: PoolWorker, state: WorkerState, note: str = ""
    ) -> None:
        """Pass on what has become of a worker."""
        self._on_worker(self._task.name, worker.number, state, note)

    def take_answer(self, worker: PoolWorker, answer: Answer) -> None:
        """Take what a worker says of one of its files."""
        answered = worker.in_flight.pop(answer.id)
        answered.settle(replace(answer, worker=worker.number))
        worker.finished += 1
        worker.began = time.time()
        self._pace.note(answer)
        self._timers.start_next(worker, answered)

    def take_back(self, worker: PoolWorker, ids: list[int]) -> None:
        """Take files that a worker has handed back, by their numbers."""
        for number in reversed(ids):
            file = worker.in_flight.pop(number)
            file.stop_timer()
            self._waiting.put_back(file)

    def settle_files(self, worker: PoolWorker, ending: Ending) -> None:
        """Settle or put back the files that a worker had when it ended."""
        self._endings.settle_files(worker, ending)

    def block(self, error: NoRoomError) -> None:
        """Answer the files that wait: no worker can start before there is room."""
        answer = Answer(0, Fate.BLOCKED, str(error), is_outage=error.is_outage)
        self._waiting.settle_all(answer)

    def _able(self, file: PoolFile) -> list[PoolWorker]:
        """Return the workers that may take a file."""
        members = self._workforce.members
        return [each for each in members if self._pace.has_room(each, file)]

    def _stop_spent(self) -> None:
        """Have fresh workers take the places of those with too little time left."""
        if not self._waiting:
            return
        for worker in self._workforce.members:
            is_idle = worker.ready and not (worker.in_flight or worker.stopping)
            if is_idle and not self._pace.can_finish(worker, self._waiting.first):
                self._workforce.stop_worker(worker)

    def _give(self, worker: PoolWorker, files: list[PoolFile]) -> None:
        """Hand over the files of one call."""
        worker.stop_timer()
        is_begun = self._task.concurrency_limit > 1 or not worker.in_flight
        if not worker.in_flight:
            # What it prints from here on belongs to these files.
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
            self._timers.start(worker, files[0])
        self._watch_ahead(worker)

    def _watch_ahead(self, worker: PoolWorker) -> None:
        """Look again, after a while, at a worker that has calls ahead."""
        if worker.ahead_timer is None and worker.calls > self._task.concurrency_limit:
            worker.ahead_timer = asyncio.get_running_loop().call_later(
                self._pace.patience_s, self._see_ahead, worker
            )

    def _see_ahead(self, worker: PoolWorker) -> None:
        """Call back what waits behind a long file, when others can take it."""
        worker.ahead_timer = None
        members = self._workforce.members
        if not worker.is_open or worker not in members:
            return
        others_can = self._workforce.has_place or any(
            each.is_open and not each.in_flight for each in members
        )
        if self._pace.is_at_a_long_one(worker) and others_can and not self._waiting:
            worker.link.send(Recall())
        self._watch_ahead(worker)
