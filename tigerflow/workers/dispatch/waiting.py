"""The files of a pool that wait for a worker, in the order in which to begin them."""

import asyncio
import math
from collections import deque
from pathlib import Path

from tigerflow.tasks.file_job import FileJob
from tigerflow.workers.dispatch.members import PoolFile
from tigerflow.workers.protocol import Answer


class WaitingFiles:
    """The files that wait; also finds those that workers have, by their outputs."""

    def __init__(self) -> None:
        """Have no file yet."""
        self._waiting: deque[PoolFile] = deque()
        #: By output: files that wait, and those that workers have.
        self._files: dict[Path, PoolFile] = {}
        #: How many files have come.
        self._came = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> PoolFile:
        """The file that is to begin next."""
        return self._waiting[0]

    def find(self, output: Path) -> PoolFile | None:
        """Return the file with this output that has no answer yet."""
        file = self._files.get(output)
        return None if file is None or file.answer.done() else file

    def add(self, job: FileJob, place: int | None) -> PoolFile:
        """Take up a new file; without a place, after those that came before."""
        self._came += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        file = PoolFile(job, answer, self._came if place is None else place)
        self._files[job.output] = file
        answer.add_done_callback(lambda _: self._drop(file))
        self._enqueue(file)
        return file

    def _drop(self, file: PoolFile) -> None:
        if self._files.get(file.job.output) is file:
            del self._files[file.job.output]

    def put_back(self, file: PoolFile) -> None:
        """Have a file begun again, unless nobody waits for it any more."""
        if file.waiters and not file.answer.done():
            self._enqueue(file)

    def give_up(self, file: PoolFile) -> None:
        """Take a file out of the queue; one that a worker has continues."""
        if file in self._waiting and not file.answer.done():
            self._waiting.remove(file)
            file.answer.cancel()

    def settle_all(self, answer: Answer) -> None:
        """Give the same answer to all that wait."""
        while self._waiting:
            self._waiting.popleft().settle(answer)

    def take_call(self, workers: int, limit: int) -> list[PoolFile]:
        """Take the files of the next call, which has up to `limit` of them.

        The files that wait are shared equally by `workers`: no call waits for more
        files.
        """
        share = math.ceil(len(self._waiting) / workers)
        call = [self._waiting.popleft()]
        while (
            len(call) < min(share, limit)
            and not call[0].goes_alone
            and not self._waiting[0].goes_alone
        ):
            call.append(self._waiting.popleft())
        return call

    def _enqueue(self, file: PoolFile) -> None:
        # Most come in their order.
        place = len(self._waiting)
        while place and self._waiting[place - 1].place > file.place:
            place -= 1
        self._waiting.insert(place, file)
