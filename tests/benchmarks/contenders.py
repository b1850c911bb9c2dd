"""Services at work on the same two tasks: ours, and what it is compared with."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows import SNAKEMAKE
from runs import World, wait_until

PEER = "tigerflow==0.3.1"

#: Far more than anything takes.
DEADLINE_S = 1800

#: So long a service may take to stop; more than one does on a machine that is busy.
STOP_S = 300

#: The same module for all: a task that notes when it started, and one that copies.
TASK = """
import time

from tigerflow.tasks import LocalTask


class {name}(LocalTask):
    @staticmethod
    def run(context, input_file, output_file):
        output_file.write_text({text})


{name}.cli()
"""
FIRST = TASK.format(name="First", text="f'{time.time()} {input_file.read_text()}'")
SECOND = TASK.format(name="Second", text="input_file.read_text()")

#: What somebody without TigerFlow writes first.
NAIVE_RULES = """
import os

STEMS = [name.removesuffix(".txt") for name in os.listdir("in")]


rule all:
    input:
        expand("second/{{stem}}.out", stem=STEMS),


rule first:
    input:
        "in/{{stem}}.txt",
    output:
        "first/{{stem}}.mid",
    shell:
        "{python} task.py {{input}} {{output}}"


rule second:
    input:
        "first/{{stem}}.mid",
    output:
        "second/{{stem}}.out",
    shell:
        "{python} task.py {{input}} {{output}}"
"""
NAIVE_TASK = """
import sys
from pathlib import Path

Path(sys.argv[2]).write_text(Path(sys.argv[1]).read_text())
"""

#: Our command line, on a file system that is taken for a remote one.
SCAN_ONLY = """
from tigerflow import main
from tigerflow.service import inbox

inbox.remembered_for_s = lambda *_: 3.0
main()
"""


@dataclass(frozen=True)
class Contender:
    """A service that can be started."""

    name: str
    #: The command line before pipeline, input and output directory.
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


_OURS = (sys.executable, "-m", "tigerflow", "watch")
OURS = Contender("TigerFlow", _OURS)
OURS_ONCE = Contender("TigerFlow, --once", (*_OURS, "--once"))
OURS_DROPPING = Contender(
    "TigerFlow, --once, metadata dropped", (*OURS_ONCE.words, "--drop-metadata")
)
OURS_SCANNING = Contender(
    "TigerFlow, scans only", (sys.executable, "-c", SCAN_ONLY, "watch")
)


def install_peer(directory: Path) -> tuple[Contender, Contender]:
    """Return the Dask-based TigerFlow, tuned and at its defaults.

    It is installed in a virtual environment at `directory`, unless it is there.
    """
    script = directory / "bin" / "tigerflow"
    if not script.exists():
        venv.create(directory, with_pip=True)
        pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", PEER]
        subprocess.run(pip, check=True)
    words = (str(script), "run")
    # It starts its tasks by `python`.
    path = {"PATH": f"{directory / 'bin'}:{os.environ['PATH']}"}
    intervals = ("TIGERFLOW_PIPELINE_POLL_INTERVAL", "TIGERFLOW_TASK_POLL_INTERVAL")
    return (
        Contender("0.3.1 tuned", words, path | dict.fromkeys(intervals, "1")),
        Contender("0.3.1 at its defaults", words, path),
    )


class Trial:
    """One pipeline in directories of its own, and the services that run it in turn."""

    def __init__(self, directory: Path, *, tasks: int = 2) -> None:
        self.root = directory
        self.inputs = directory / "in"
        self.out = directory / "out"
        #: Where the pipeline's last outputs appear.
        self.finals = self.out / ("second" if tasks == 2 else "first")
        self._world = World(directory)
        self._process: subprocess.Popen[bytes] | None = None
        self.inputs.mkdir(parents=True)
        self.out.mkdir()
        self.write_pipeline(tasks)

    def write_pipeline(self, tasks: int) -> None:
        """Write the pipeline file, and the modules of its tasks."""
        (self.root / "first.py").write_text(FIRST)
        (self.root / "second.py").write_text(SECOND)
        pipeline = {"tasks": [_task("first", ".txt", ".mid" if tasks == 2 else ".out")]}
        if tasks == 2:
            second = _task("second", ".mid", ".out") | {"depends_on": "first"}
            pipeline["tasks"].append(second)
        (self.root / "pipeline.yaml").write_text(json.dumps(pipeline))

    def add(self, count: int, text: str = "a small file\n") -> None:
        """Put small files into the input directory."""
        for number in range(count):
            (self.inputs / f"f{number:06}.txt").write_text(text)

    def move_in(self, stem: str, text: str = "a small file\n") -> float:
        """Let one file arrive, whole; return when."""
        path = self.root / f"{stem}.txt"
        path.write_text(text)
        arrived = time.time()
        path.rename(self.inputs / path.name)
        return arrived

    def start(self, contender: Contender) -> float:
        """Start a service; return when."""
        environment = self._world.environment(**contender.environment)
        places = [self.root / "pipeline.yaml", self.inputs, self.out]
        started = time.time()
        with (self.root / "said.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*contender.words, *places],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return started

    def run_to_end(self, contender: Contender) -> float:
        """Run a service that ends by itself; return how long that takes."""
        started = self.start(contender)
        assert self._process is not None
        code = self._process.wait(DEADLINE_S)
        taken = time.time() - started
        assert code == 0, self.said
        return taken

    def stop(self) -> None:
        """Stop the service, and wait for all that it started."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_S)
        self.until_ended()

    def until_ended(self) -> None:
        """Wait for all that the service has started."""
        wait_until(lambda: not self._world.processes(), "all processes have ended")

    @contextlib.contextmanager
    def serving(self, contender: Contender) -> Iterator[float]:
        """Keep a service running; yields when it was started."""
        try:
            yield self.start(contender)
        finally:
            self.stop()

    @property
    def said(self) -> str:
        return (self.root / "said.log").read_text()[-2000:]

    @property
    def pids(self) -> list[int]:
        """The service and all its processes, itself the first."""
        assert self._process is not None
        first = self._process.pid
        return [first, *(pid for pid in self._world.processes() if pid != first)]

    def until_done(self, stem: str) -> float:
        """Wait for a file's last output; return when it was there."""
        path = self.finals / f"{stem}.out"
        self._wait(path.exists, pause_s=0.001)
        return time.time()

    def until_started(self, stem: str) -> float:
        """Wait for a file's last output; return when its first task was started."""
        self.until_done(stem)
        return float((self.finals / f"{stem}.out").read_text().split()[0])

    def until_all_done(
        self,
        count: int,
        pause_s: float = 0.25,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[float]:
        """Wait until so many files are done; return when each was, sorted."""

        def all_done() -> bool:
            meanwhile()
            return self.count() >= count

        self._wait(all_done, pause_s)
        return self.times()

    def times(self) -> list[float]:
        """Return when each of the files was done, sorted."""
        with os.scandir(self.finals) as entries:
            return sorted(entry.stat().st_mtime for entry in entries)

    def _wait(self, condition: Callable[[], bool], pause_s: float) -> None:
        def true_or_ended() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, "it has ended"
            return condition()

        try:
            wait_until(true_or_ended, pause_s=pause_s, deadline_s=DEADLINE_S)
        except AssertionError as error:
            error.add_note(self.said)
            raise

    def count(self) -> int:
        """Return how many files are done."""
        if not self.finals.exists():
            return 0
        with os.scandir(self.finals) as entries:
            names = [entry.name for entry in entries]
        return sum(name.endswith(".out") and name[0] != "." for name in names)

    def dry_run(self) -> float:
        """Let Snakemake find that nothing is to be done; return how long it takes."""
        snakefile = self.out / ".tigerflow" / "workflow" / "Snakefile"
        taken, said = run_snakemake(self.root, "-s", str(snakefile), "-n")
        assert "Nothing to be done" in said, said
        return taken

    def command(self, *words: str) -> tuple[float, float]:
        """Run a command of ours; return seconds and the most memory in MB."""
        line = [sys.executable, "-m", "tigerflow", *words]
        started = time.perf_counter()
        process = subprocess.Popen(
            line, env=self._world.environment(), stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return time.perf_counter() - started, usage.ru_maxrss / 1024


def run_naive(directory: Path, count: int, scaled_to: int) -> float:
    """Run the naive workflow over `count` files; return seconds for `scaled_to`."""
    (directory / "Snakefile").write_text(NAIVE_RULES.format(python=sys.executable))
    (directory / "task.py").write_text(NAIVE_TASK)
    inputs = directory / "in"
    inputs.mkdir()
    for number in range(count):
        (inputs / f"f{number:06}.txt").write_text("a small file\n")
    words = ["-c2", "--scheduler", "greedy", "--quiet", "all"]
    measured_s, _ = run_snakemake(directory, *words)
    # Setting up Snakemake itself is paid once, however many files there are.
    once_s, _ = run_snakemake(directory, *words)
    return once_s + (measured_s - once_s) * scaled_to / count


def run_snakemake(directory: Path, *words: str) -> tuple[float, str]:
    """Run Snakemake to its end; return how long it takes, and what it says."""
    started = time.perf_counter()
    done = subprocess.run(
        [SNAKEMAKE, *words],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - started
    assert done.returncode == 0, done.stdout
    return taken, done.stdout


def _task(name: str, input_ext: str, output_ext: str) -> dict[str, str]:
    return {
        "name": name,
        "kind": "local",
        "module": f"{name}.py",
        "input_ext": input_ext,
        "output_ext": output_ext,
    }
