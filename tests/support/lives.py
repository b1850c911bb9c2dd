"""One process of a service, and what can be seen of how far it is."""

import subprocess  # noqa: TC003 -- dataclasses may read it
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runs import lines, wait_until
from services import Watched


@dataclass
class Life:
    """One process of the service, by what can be seen of it from outside."""

    flow: Watched
    process: "subprocess.Popen[str]"
    #: How much had been said and noted before it.
    said: int
    noted: int

    @classmethod
    def start(cls, flow: Watched, *options: str) -> "Life":
        said, noted = len(flow.said), len(lines(flow.notes))
        return cls(flow, flow.watch(*options), said, noted)

    def until(self, condition: Callable[["Life"], bool], what: str = "") -> None:
        """Wait until this is so, or the process has ended."""
        wait_until(lambda: condition(self) or self.process.poll() is not None, what)

    @property
    def words(self):
        return self.flow.said[self.said :]

    @property
    def notes(self):
        return lines(self.flow.notes)[self.noted :]

    @property
    def helpers(self):
        return len(self.flow.world.processes()) - 1

    def has_mapped(self, library):
        return library in _text(f"/proc/{self.process.pid}/maps")

    def is_in_run_directory(self):
        return Path(f"/proc/{self.process.pid}/cwd").resolve() == self.flow.out

    def has_lock(self):
        path = self.flow.out / ".tigerflow" / "run.pid"
        return f'"pid": {self.process.pid},' in _text(path)

    def has_scratch(self):
        return any(path.is_dir() for path in self.flow.runtime_files())


def _text(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


#: In the order in which they come, once a start.
START = {
    "runs": lambda _life: True,
    "has imported yaml": lambda life: life.has_mapped("_yaml"),
    "describes its tasks": lambda life: life.helpers > 0,
    "is in the run directory": Life.is_in_run_directory,
    "has the lock": Life.has_lock,
    "has its directory of sockets": Life.has_scratch,
    "is up": lambda life: "Starting pipeline execution" in life.words,
    "has staged files": lambda life: "Staged" in life.words,
    "sets up": lambda life: "setup head" in life.notes,
}

#: The same, after a request to stop.
END = {
    "is asked": lambda _life: True,
    "knows": lambda life: "initiating shutdown" in life.words,
    "ends": lambda life: "Shutting down pipeline" in life.words,
    "tears down": lambda life: "teardown head" in life.notes,
    "has no socket": lambda life: not life.flow.runtime_files(),
    "says that it is over": lambda life: "shutdown complete" in life.words,
}
