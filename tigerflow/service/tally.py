"""How many files each task has done, counted as it happens.

So a question costs the same, however many files there are.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping


class Tally:
    """Counts files by what each task has made of them.

    A file is done when all tasks are, and failed when a task has failed and only those
    that depend on it are left.
    """

    def __init__(self, parents: Mapping[str, str | None]) -> None:
        """Count for these tasks, each with the one before it that it depends on."""
        self._tasks = tuple(parents)
        self._bits = {name: 1 << place for place, name in enumerate(parents)}
        self._all = (1 << len(parents)) - 1
        #: Beyond all that a task may have made of a file.
        self._refused = 1 << 2 * len(parents)
        #: By task: its own bit, and those of all tasks that depend on it.
        self._reach = dict(self._bits)
        for name, parent in reversed(list(parents.items())):
            if parent is not None:
                self._reach[parent] |= self._reach[name]
        #: By file: the tasks that are done, and shifted by as many, those that failed.
        self._files: dict[str, int] = {}
        self._counts = [0] * (2 * len(parents))
        self._failed: dict[str, None] = {}
        self.done = 0

    @property
    def failed(self) -> int:
        """How many files have failed."""
        return len(self._failed)

    def of_task(self, task: str) -> tuple[int, int]:
        """Return how many files a task has done, and how many it has failed on."""
        place = self._tasks.index(task)
        return self._counts[place], self._counts[place + len(self._tasks)]

    def left_of(self, name: str) -> tuple[str, ...] | None:
        """Return the tasks that are not done with a file; None if none is done."""
        done = self._files.get(name, 0) & self._all
        if not done:
            return None
        return tuple(task for task, bit in self._bits.items() if not done & bit)

    def first_failed(self, count: int) -> Iterator[tuple[str, str | None]]:
        """Return `count` failed files at most, each with a task that failed or None."""
        for name in itertools.islice(self._failed, count):
            failed = self._files[name] >> len(self._tasks)
            tasks = (task for task, bit in self._bits.items() if failed & bit)
            yield name, next(tasks, None)

    def judge(self, name: str, done: Iterable[str], failed: Iterable[str]) -> None:
        """Replace what is known of a file: the tasks done, and those that failed."""
        bits = self._bits
        self._set(
            name, sum(bits[task] for task in done), sum(bits[task] for task in failed)
        )

    def note(self, name: str, task: str, *, succeeded: bool) -> None:
        """Note what a task has just made of a file."""
        known, bit = self._files.get(name, 0), self._bits[task]
        done, failed = known & self._all & ~bit, known >> len(self._tasks) & ~bit
        if succeeded:
            self._set(name, done | bit, failed)
        else:
            self._set(name, done, failed | bit)

    def refuse(self, name: str) -> None:
        """Count a file as failed that no task will process."""
        self._put(name, self._refused)

    def forget(self, name: str) -> None:
        """Stop counting a file."""
        self._put(name, 0)

    def _set(self, name: str, done: int, failed: int) -> None:
        self._put(name, done | failed << len(self._tasks))

    def _put(self, name: str, known: int) -> None:
        before = self._files.get(name, 0)
        if before == known:
            return
        self._count(name, before, -1)
        if known:
            self._files[name] = known
        else:
            del self._files[name]
        self._count(name, known, 1)

    def _count(self, name: str, known: int, by: int) -> None:
        for place in range(len(self._counts)):
            if known >> place & 1:
                self._counts[place] += by
        done = known & self._all
        if done == self._all:
            self.done += by
        elif self._has_failed(done, known >> len(self._tasks)):
            if by > 0:
                self._failed[name] = None
            else:
                del self._failed[name]

    def _has_failed(self, done: int, failed: int) -> bool:
        settled = done
        for task, bit in self._bits.items():
            if failed & bit:
                settled |= self._reach[task]
        return failed > self._all or (failed != 0 and settled == self._all)
