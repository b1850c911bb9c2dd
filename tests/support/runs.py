"""Run directories with real workers, and what is left of them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tigerflow.workers import client

#: Far more than anything takes here; only a test that fails waits for so long.
DEADLINE_S = 240

#: Every process of a test has this in its environment, and so is found again.
MARK = "TEST_RUN_OF_TIGERFLOW"

_CLIENT = [sys.executable, "-I", "-S", client.__file__]
_SLEEPER = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
_STOP = "from tigerflow.workers import client; print(*client.stop(), sep='\\n')"


def wait_until(
    condition: Callable[[], Any],
    what: str | Callable[[], str] = "",
    *,
    pause_s: float = 0.01,
    deadline_s: float = DEADLINE_S,
) -> Any:
    """Return the condition's value once it is true; look again after each pause.

    `what` is said of one that does not become true; a function says how it is then.
    """
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        is_late = time.monotonic() >= end
        said = what() if is_late and callable(what) else what
        assert not is_late, f"still not true: {said or condition}"
        time.sleep(pause_s)
    return value


def lines(path: Path) -> list[str]:
    """Return a file's lines; none when it is not there."""
    return path.read_text().splitlines() if path.exists() else []


class World:
    """All run directories of one test; as a context manager, it ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.runs: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, name: str = "run", **environment: str) -> "Run":
        run = Run(self.directory / name, self.environment(**environment))
        self.runs.append(run)
        return run

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TIGERFLOW_")}
        return kept | {MARK: self.mark} | more

    def processes(self, word: str = "") -> list[int]:
        """Return the ids of the live processes, of those with `word` in the command."""
        # Commands first: they are quicker to read than environments.
        named = (pid for pid in _pids() if not word or word in _command(pid))
        return [pid for pid in named if self._is_ours(pid)]

    def close(self) -> None:
        """End all, and check that nothing is left."""
        for run in self.runs:
            run.end_owner()
        try:
            wait_until(lambda: not self.processes(), "all processes have ended")
        finally:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        left = list(self.directory.rglob(".~tf_*"))
        left += [path for run in self.runs for path in run.runtime_files()]
        assert left == []

    def _is_ours(self, pid: int) -> bool:
        try:
            data = Path(f"/proc/{pid}/environ").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return f"{MARK}={self.mark}".encode() in data.split(b"\0") and state != "Z"


class Run:
    """A run directory, and a process that stands for its Snakemake."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.notes = path / "notes.txt"
        (path / ".tigerflow" / "workflow" / "tasks").mkdir(parents=True)
        self._owner: subprocess.Popen[bytes] | None = None

    @property
    def owner(self) -> "subprocess.Popen[bytes]":
        if self._owner is None:
            self._owner = subprocess.Popen(_SLEEPER, env=self.environment)
        return self._owner

    def end_owner(self) -> None:
        """End it as SIGKILL does; the next file comes from a new one."""
        if self._owner is not None:
            self._owner.kill()
            self._owner.wait()
            self._owner = None

    def add_task(self, code: str, name: str = "work", **told: Any) -> None:
        """Write a task module and what its workers are told.

        In the code, `note(text)` appends a line to the run's notes.
        """
        module = self.path / f"{name}.py"
        module.write_text(module_text(code, self.notes))
        described = {
            "name": name,
            "module": str(module),
            "directory": str(self.path),
            "params": {},
            "setup_commands": [],
            "output_ext": ".out",
            "workers": 1,
            "concurrency_limit": 1,
            "threads": 1,
        } | told
        worker_file = self.path / ".tigerflow" / "workflow" / "tasks" / f"{name}.json"
        worker_file.write_text(json.dumps(described))

    def start(self, stem: str, task: str = "work") -> "subprocess.Popen[str]":
        """Start the client for one file, which is made when it is not there."""
        source = f"{stem}.in"
        with contextlib.suppress(FileExistsError), self._open(source, "x") as file:
            file.write(f"content of {stem!a}")
        (self.path / task).mkdir(exist_ok=True)
        run_pid = str(self.owner.pid)
        words = [".tigerflow/workflow", run_pid, task, source, f"{task}/{stem}.out"]
        return subprocess.Popen(
            [*_CLIENT, *words],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        )

    def process(self, stem: str, task: str = "work") -> tuple[int, str]:
        """Process one file; return the client's exit code and what it said."""
        return finish(self.start(stem, task))

    def stop(self) -> str:
        """Stop the workers as the end of a workflow does; return what it said."""
        done = subprocess.run(
            [sys.executable, "-c", _STOP],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE_S,
        )
        return done.stdout.strip()

    def output(self, stem: str, task: str = "work") -> Path:
        return self.path / task / f"{stem}.out"

    def error(self, stem: str, task: str = "work") -> Path:
        return self.path / task / f"{stem}.err"

    def names(self, task: str = "work") -> list[str]:
        """Return the names of all that is among a task's results."""
        return sorted(path.name for path in (self.path / task).iterdir())

    def record(self, stem: str, task: str = "work") -> dict[str, str]:
        """Return what an `.err` says."""
        record: dict[str, str] = json.loads(self.error(stem, task).read_text())
        return record

    def log(self, task: str = "work") -> str:
        return (self.path / ".tigerflow" / "logs" / f"{task}.log").read_text()

    def noted(self, word: str = "") -> list[str]:
        """Return the notes that start with `word`."""
        return [line for line in lines(self.notes) if line.startswith(word)]

    def until_noted(self, line: str) -> None:
        wait_until(lambda: line in lines(self.notes), f"{line!r} is noted")

    def runtime_files(self) -> list[Path]:
        """Return the socket and lock files of the run's host that are there."""
        return runtime_files(self.path)

    def _open(self, name: str, mode: str) -> Any:
        return (self.path / name).open(mode)


def runtime_files(run_dir: Path) -> list[Path]:
    """Return the socket and lock files of a run directory's hosts that are there."""
    with contextlib.chdir(run_dir):
        socket = Path(client.socket_path())
    names = (f"{socket.name}*", f"{socket.stem}-*")
    return [path for name in names for path in socket.parent.glob(name)]


def finish(
    process: "subprocess.Popen[str]", deadline_s: float = DEADLINE_S
) -> tuple[int, str]:
    """Wait for a process; return its exit code and what it printed."""
    out, err = process.communicate(timeout=deadline_s)
    return process.returncode, out + (err or "")


def module_text(code: str, notes: Path) -> str:
    """Return a task module, in which `note(text)` appends a line to `notes`."""
    return _PREAMBLE.format(notes=str(notes)) + textwrap.dedent(code)


_PREAMBLE = """\
import os, pathlib, signal, sys, time
from tigerflow.tasks import LocalAsyncTask, LocalTask, SlurmTask


def note(text):
    with open({notes!r}, "a", errors="surrogateescape") as file:
        print(text, file=file)


def wait_for(name):
    while not (pathlib.Path({notes!r}).parent / name).exists():
        time.sleep(0.01)

"""


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _command(pid: int) -> str:
    try:
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return data.replace(b"\0", b" ").decode(errors="replace")
