"""Measure how long a task's files take, and how many a worker should have at once."""

import math
import time
from collections import deque

from tigerflow.settings import Settings
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.members import PoolFile, PoolWorker
from tigerflow.workers.protocol import Answer

#: How many seconds' worth of short files a worker has at once, and how many files at
#: most: on this host, and on another, where the next file takes longer to arrive.
AHEAD_S, MOST_AHEAD = 0.02, 8
REMOTE_AHEAD_S, REMOTE_MOST_AHEAD = 2.0, 64

#: Seconds at one file after which a worker is sent no more ahead, and those that wait
#: behind it go to others: on this host, and on another.
PATIENCE_S, REMOTE_PATIENCE_S = 0.25, 4.0

#: Over about how many files the time is averaged.
AVERAGED_OVER = 10

#: The next file may take as long as the longest of this many: a slow file long ago must
#: not make every worker leave early forever.
REMEMBERED = 10


class Pace:
    """How long the files of one task have taken so far."""

    def __init__(self, task: WorkerTask, settings: Settings) -> None:
        """Know of no file yet."""
        self._task = task
        self._grace_s = settings.worker_wall_time_grace
        #: For how many seconds a worker may process a file while others wait behind it.
        self.patience_s = PATIENCE_S
        if task.remote:
            # Its answer is seen only when the mailbox is polled.
            self.patience_s = REMOTE_PATIENCE_S + 2 * settings.mailbox_poll_ms / 1000
        self._average_s: float | None = None
        self._last_s: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, answer: Answer) -> None:
        """Note how long a file has taken."""
        if answer.started:
            self._last_s.append(answer.seconds)
            before = answer.seconds if self._average_s is None else self._average_s
            self._average_s = before + (answer.seconds - before) / AVERAGED_OVER

    @property
    def files_at_once(self) -> int:
        """How many files a worker works on at once, at most."""
        return self._task.concurrency_limit * self._task.batch_size

    @property
    def most_in_hand(self) -> int:
        """About how many files a worker has at once, when they are very short."""
        return max(REMOTE_MOST_AHEAD, 2 * self._task.batch_size)

    def has_room(self, worker: PoolWorker, file: PoolFile) -> bool:
        """Return whether a worker may be given a file now."""
        in_flight = worker.in_flight.values()
        # A file that may have killed a worker is processed alone.
        alone = file.deaths or any(other.deaths for other in in_flight)
        limit = 1 if alone else self._depth
        if self.is_at_a_long_one(worker):
            limit = min(limit, self._task.concurrency_limit)
        if not worker.is_open or worker.calls >= limit:
            return False
        return self.can_finish(worker, file)

    def is_at_a_long_one(self, worker: PoolWorker) -> bool:
        """Return whether its present file takes longer than usual."""
        at_it_s = time.time() - worker.began
        return bool(worker.in_flight) and at_it_s >= self.patience_s

    def can_finish(self, worker: PoolWorker, file: PoolFile) -> bool:
        """Return whether it has time for a file, by how long others have taken."""
        if worker.ends_at is None or not worker.finished:
            # A fresh worker has all the time that any has.
            return True
        needed_s = max(*self._last_s, 2 * file.cut_s, 0)
        left_s = worker.ends_at - time.time() - self._grace_s
        return left_s >= needed_s

    @property
    def _depth(self) -> int:
        """How many calls a worker has at once, at most.

        Short files are sent ahead of their turn, so that the worker need not wait for
        the next one.
        """
        limit, is_remote = self._task.concurrency_limit, self._task.remote
        if self._average_s is None or (limit > 1 and not is_remote):
            return limit
        ahead_s, most = AHEAD_S, MOST_AHEAD
        if is_remote:
            ahead_s, most = REMOTE_AHEAD_S, REMOTE_MOST_AHEAD
        most = max(2, most // self._task.batch_size)
        return limit * math.ceil(ahead_s / max(self._average_s, ahead_s / most))
