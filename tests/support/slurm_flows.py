"""Services whose workers are jobs of the throw-away Slurm."""

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from runs import World, wait_until
from services import Watched
from slurm.hosts import ClusterError
from slurm.throwaway import Cluster

from tigerflow.rundir.events import TaskTried

#: What a test waits for at the most; several together take their time on two cores.
SLURM_DEADLINE_S = 480

#: Before each task's code: `alone(input_file)` notes two workers at one file.
ALONE = """
import contextlib, fcntl, socket

@contextlib.contextmanager
def alone(input_file):
    lock = open(pathlib.Path(os.environ["LOCKS"]) / input_file.name, "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(f"VIOLATION {input_file.stem}")
    with lock:
        yield
"""

#: Notes what it does, and where; files whose name starts with `wait` wait for `go`.
WORK = (
    ALONE
    + """
class Work(SlurmTask):
    def setup(context):
        note(f"setup {socket.gethostname()} {os.getpid()}")
    def run(context, input_file, output_file):
        with alone(input_file):
            job = os.environ["SLURM_JOB_ID"]
            note(f"run {input_file.stem} {job} {os.getpid()}")
            if input_file.stem.startswith("wait"):
                output_file.write_text("half")
                wait_for("go")
            if input_file.stem.startswith("second"):
                time.sleep(1)
            output_file.write_text(input_file.read_text())
    def teardown(context): note("teardown")
"""
)

#: How Slurm calls the jobs that tests submit themselves; ours have other names.
OTHERS = "wrap"

RESOURCES = {"cpus": 1, "memory": "100M", "time": "10"}


class SlurmFlow(Watched):
    """A pipeline with Slurm tasks."""

    def __init__(self, world: World, slurm: Cluster, **environment: str) -> None:
        quick = {"TIGERFLOW_WORKER_LOST_TIMEOUT": "12", "TIGERFLOW_WORKER_GRACE": "10"}
        locks = world.directory / "locks"
        locks.mkdir()
        more = slurm.variables | {"LOCKS": str(locks)} | quick | environment
        super().__init__(world, **more)
        self.slurm = slurm
        self.count = WorkerCount(slurm, world)
        self._max_jobs = 1

    def serve(self, code: str = WORK, **task: Any) -> None:
        """Write a pipeline of one Slurm task, `work`."""
        self.add_module(code)
        self.write(self.task(**task))

    def task(self, **changed: Any) -> dict[str, Any]:
        """Describe the Slurm task, which has one worker by default."""
        worker_resources = RESOURCES | changed.pop("resources", {})
        workers, share = (
            changed.get("max_workers", 1),
            changed.get("workers_per_job", 1),
        )
        self._max_jobs = -(-workers // share)
        return {
            "name": "work",
            "kind": "slurm",
            "module": "tasks.py:Work",
            "max_workers": 1,
            "worker_resources": worker_resources,
        } | changed

    def ended(self, process: Any) -> int:
        """Wait for the end of a service; return its exit code."""
        return int(process.wait(SLURM_DEADLINE_S))

    def stop(self, process: Any, number: int = signal.SIGINT) -> int:
        """Stop a service; return its exit code."""
        process.send_signal(number)
        return self.ended(process)

    def until(self, *paths: str) -> None:
        """Wait until all these are there."""
        until(
            lambda: all((self.out / path).exists() for path in paths),
            lambda: f"{paths} are there; it said: {self.said}",
        )

    def until_said(self, text: str) -> None:
        """Wait until the service has said so."""
        until(lambda: text in self.said, lambda: f"{text!r} is said: {self.said}")

    def finish(self, *options: str) -> int:
        """Serve what is there; return the exit code."""
        return self.ended(self.watch("--once", *options))

    def lose(self, process: Any) -> None:
        """Do what the loss of a login node does: nobody is left to cancel anything."""
        here = Path("/proc/self/ns/pid").readlink()
        for pid in self.world.processes():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/ns/pid").readlink() == here:
                    os.kill(pid, signal.SIGKILL)
        process.wait()

    def until_running(self, stem: str, times: int = 1) -> tuple[str, int]:
        """Wait until a file is run so often; return the last one's job and process."""
        until(
            lambda: len(self.runs(stem)) >= times, lambda: f"{stem} runs; {self.said}"
        )
        return self.runs(stem)[-1]

    def runs(self, stem: str) -> list[tuple[str, int]]:
        words = [line.split() for line in self.in_order(f"run {stem} ")]
        return [(job, int(pid)) for _, _, job, pid in words]

    def in_order(self, word: str) -> list[str]:
        text = self.notes.read_text() if self.notes.exists() else ""
        return [line for line in text.splitlines() if line.startswith(word)]

    def go(self) -> None:
        (self.root / "go").touch()

    def record(self, stem: str, task: str = "work") -> dict[str, str]:
        """Return what an `.err` says."""
        path = self.out / task / f"{stem}.err"
        record: dict[str, str] = json.loads(path.read_text())
        return record

    def host_pid(self, node: str, inner: int) -> int:
        """Return the id that a process of a node has here."""
        for path in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                status = path.read_text()
                ids = status.partition("NSpid:")[2].splitlines()[0].split()
                if ids[-1] == str(inner) and len(ids) > 1:
                    pid = int(ids[0])
                    if pid in self.world.processes() and self._is_on(node, pid):
                        return pid
        msg = f"no process {inner} on {node}"
        raise AssertionError(msg)

    def _is_on(self, node: str, pid: int) -> bool:
        namespace = Path(f"/proc/{self.slurm.nodes[node].pid}/ns/pid").readlink()
        return Path(f"/proc/{pid}/ns/pid").readlink() == namespace

    def setups(self) -> list[tuple[str, ...]]:
        """Return a word, the node and the process of each worker that was set up."""
        return [tuple(line.split()) for line in self.in_order("setup")]

    def node_of(self, job: str) -> str:
        words = ("squeue", "--noheader", "--format=%N", "--jobs", job)
        return self.slurm.call(*words).strip()

    def _ends(self) -> list[TaskTried]:
        """Return what the journal has of files of the Slurm task that ended."""
        ends = self.events(TaskTried)
        return [event for event in ends if event.task == "work"]

    @property
    def jobs_log(self) -> str:
        """Return what was said by those that submit jobs."""
        return (self.out / ".tigerflow" / "logs" / "jobs.log").read_text()

    def mailboxes(self) -> list[Path]:
        return list((self.out / ".tigerflow" / "mailboxes").glob("*/*"))

    def leftovers(self) -> list[object]:
        left = super().leftovers()
        # Also when it is empty: it would keep another user from going on.
        left += (self.out / ".tigerflow").glob("mailboxes")
        with contextlib.suppress(ClusterError):
            left += self.slurm.jobs()
        return left

    def check(self, *done: str, failed: tuple[str, ...] = ()) -> None:
        """Check that each file has ended once, and that nothing is left."""
        names = [f"{stem}.out" for stem in done] + [f"{stem}.err" for stem in failed]
        assert self.names("work") == sorted(names), self.said
        assert self.in_order("VIOLATION") == []
        assert len(self.count.most) <= self._max_jobs, self.count.most
        ends = Counter(event.file for event in self._ends())
        assert not ends or ends.most_common(1)[0][1] == 1, ends
        assert "Traceback" not in self.said, self.said
        until(
            lambda: not self.leftovers(),
            lambda: f"left: {self.leftovers()} {self.said}",
        )


def generic_profile(directory: Path, partition: str = "main") -> Path:
    """Make a profile of a plugin that knows a scheduler by its commands alone."""
    profile = directory / "generic"
    profile.mkdir()
    (profile / "profile.yaml").write_text(_GENERIC.format(partition=partition))
    return profile


_GENERIC = """
executor: cluster-generic
cluster-generic-submit-cmd: >-
  sbatch --parsable --partition={partition} --cpus-per-task={{threads}}
  --mem={{resources.mem_mb}} --time={{resources.runtime}} --output=/dev/null
cluster-generic-cancel-cmd: scancel
jobs: 1000
keep-going: true
scheduler: greedy
latency-wait: 30
"""


def until(condition: Any, what: str | Callable[[], str] = "") -> Any:
    """As `wait_until`, for what takes longer."""
    return wait_until(condition, what, pause_s=0.05, deadline_s=SLURM_DEADLINE_S)


@contextlib.contextmanager
def full_nodes(slurm: Cluster) -> Iterator[int]:
    """Fill all nodes with jobs of others; they end with the block.

    Yields how many jobs these are.
    """
    words = ("--exclusive", "--output=/dev/null", "--nodes=1")
    jobs = [slurm.submit(*words, command="sleep 1000") for _ in slurm.nodes]
    look = ("squeue", "--noheader", "--states=RUNNING", "--format=%A")
    until(lambda: set(jobs) <= set(slurm.call(*look).split()), "all nodes are full")
    try:
        yield len(jobs)
    finally:
        slurm.call("scancel", *jobs)


class WorkerCount:
    """Looks again and again how many workers of ours there are, live or queued.

    Those that live on a node that its scheduler has lost count too.
    """

    def __init__(self, slurm: Cluster, world: World) -> None:
        self._slurm = slurm
        self._world = world
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._looks = 0
        #: The most that there were at once, as ids of their jobs.
        self.most: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            # What ends or begins while the scheduler is asked is not there at once.
            live = self._live()
            with contextlib.suppress(ClusterError):
                now = self._queued() | (live & self._live())
                self.most = max(self.most, now, key=len)
            self._looks += 1

    def _queued(self) -> set[str]:
        """Return the jobs that wait or run; one that is being ended does neither."""
        states = "--states=PENDING,CONFIGURING,RUNNING"
        said = self._slurm.call("squeue", "--noheader", states, "--format=%A %j")
        jobs = [line.split() for line in said.splitlines()]
        return {number for number, name in jobs if name != OTHERS}

    def _live(self) -> set[str]:
        pids = self._world.processes("tigerflow.workers.process.remote")
        return {_job_of(pid) for pid in pids} - {""}

    def look(self, times: int = 10) -> None:
        """Return after so many more looks."""
        enough = self._looks + times + 1
        until(lambda: self._looks >= enough, "the queue is looked at")


def _job_of(pid: int) -> str:
    try:
        data = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""
    values = dict(each.partition("=")[::2] for each in data.split("\0"))
    return values.get("SLURM_JOB_ID", "")


def parent_of(pid: int) -> int:
    """Return the id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
