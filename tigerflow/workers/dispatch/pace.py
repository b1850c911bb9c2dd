"""How long a task's files take, and what follows for what a worker is given."""

import math
import time
from collections import deque

from tigerflow.settings import Settings
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.dispatch.members import PoolFile, PoolWorker
from tigerflow.workers.protocol import Answer

#: For how many seconds a worker has files in hand, when they are short, and how many at
#: the most: on this host, and far away, where the next takes longer to come.
AHEAD_S, MOST_AHEAD = 0.02, 8
REMOTE_AHEAD_S, REMOTE_MOST_AHEAD = 2.0, 64

#: After how long at one file, in seconds, a worker is given none ahead, and those that
#: it has go to others: on this host, and far away.
PATIENCE_S, REMOTE_PATIENCE_S = 0.25, 4.0

#: Over about how many files their time is averaged.
AVERAGED_OVER = 10

#: Of how many files the longest is what the next may take: one that took its time long
#: ago must not have each worker leave early for ever.
REMEMBERED = 10


class Pace:
    """How long the files of one task have taken so far."""

    def __init__(self, task: WorkerTask, settings: Settings) -> None:
        """Know of no file yet."""
        self._task = task
        self._grace_s = settings.worker_wall_time_grace
        #: For how long a worker may be at a file while others wait behind that.
        self.patience_s = PATIENCE_S
        if task.remote:
            # Its answer is seen at the next look.
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
        """How many files a worker works on at once, at the most."""
        return self._task.concurrency_limit * self._task.batch_size

    @property
    def most_in_hand(self) -> int:
        """About how many files a worker has in hand, when they are the shortest."""
        return max(REMOTE_MOST_AHEAD, 2 * self._task.batch_size)

    def has_room(self, worker: PoolWorker, file: PoolFile) -> bool:
        """Return whether a worker may be given a file now."""
        in_flight = worker.in_flight.values()
        # A file that may have killed a worker has one for itself.
        alone = file.deaths or any(other.deaths for other in in_flight)
        limit = 1 if alone else self._depth
        if self.is_at_a_long_one(worker):
            limit = min(limit, self._task.concurrency_limit)
        if not worker.is_open or worker.calls >= limit:
            return False
        return self.can_finish(worker, file)

    def is_at_a_long_one(self, worker: PoolWorker) -> bool:
        """Return whether what it has in hand takes longer than files have taken."""
        at_it_s = time.time() - worker.began
        return bool(worker.in_flight) and at_it_s >= self.patience_s

    def can_finish(self, worker: PoolWorker, file: PoolFile) -> bool:
        """Return whether there is time for it, by how long files have taken so far."""
        if worker.ends_at is None or not worker.finished:
            # It never has more time than a fresh one.
            return True
        needed_s = max(*self._last_s, 2 * file.cut_s, 0)
        left_s = worker.ends_at - time.time() - self._grace_s
        return left_s >= needed_s

    @property
    def _depth(self) -> int:
        """How many calls a worker has in hand at the most.

        It has some more than it works on, when they are short, so that it need not wait
        for the next.
        """
        limit, is_remote = self._task.concurrency_limit, self._task.remote
        if self._average_s is None or (limit > 1 and not is_remote):
            return limit
        ahead_s, most = AHEAD_S, MOST_AHEAD
        if is_remote:
            ahead_s, most = REMOTE_AHEAD_S, REMOTE_MOST_AHEAD
        most = max(2, most // self._task.batch_size)
        return limit * math.ceil(ahead_s / max(self._average_s, ahead_s / most))
