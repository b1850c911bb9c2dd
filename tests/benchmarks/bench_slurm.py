"""Measure what workers in Slurm jobs promise, beside others; print Markdown tables.

    python tests/benchmarks/bench_slurm.py [--repeats N] [--only ROW …]

It starts the throw-away cluster of the tests (root, Debian's packages) and, in turn,
TigerFlow and the Dask-based TigerFlow 0.3.1 on it, which is installed in a virtual
environment of its own. Each figure is the median of the repeats, each ratio one of
medians. A second table has what a file costs in the three ways to run a pipeline.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from contenders import (
    OURS,
    OURS_ONCE,
    Contender,
    Trial,
    run_snakemake,
)
from contest import HEAD, Contest, Row, median, options_parser, print_load
from runs import wait_until
from slurm.throwaway import Cluster, what_is_missing
from tables import holds, machine, print_table
from usage import cpu_s, memory_mb

WAYS_HEAD = ("way", "files", "start → first output", "last", "each further file")

#: Sleeps for as long as the file says, and tells which worker it was.
TASK = """
import os
import socket
import time

from tigerflow.tasks import SlurmTask


class First(SlurmTask):
    @staticmethod
    def setup(context):
        time.sleep({setup_s})

    @staticmethod
    def run(context, input_file, output_file):
        time.sleep(float(input_file.read_text() or 0))
        output_file.write_text(f"{{socket.gethostname()}} {{os.getpid()}}")


First.cli()
"""

WORKERS = 4
WORK_FILES, WORK_S, SETUP_S = 200, 0.5, 3
ARRIVALS, PEER_ARRIVALS = 15, 5
#: At its defaults it takes 18 s for each.
PEER_DEFAULT_ARRIVALS = 3
ARRIVED_S = 0.1
MANY = 2_000

#: Of many workers, and the files that keep them busy.
BUSY_WORKERS = 16
BUSY_FILES_S = (10, 1)
SETTLE_S, BUSY_S = 15, 60
LOOK_S = 2

#: How long the files are by which workers are brought up.
WARM_S = 2

#: Files for each way, by how long one takes.
PLAIN_FILES, EXECUTOR_FILES, SERVICE_FILES = 40, 1_000, 2_000


class SlurmTrial(Trial):
    """A pipeline of one Slurm task in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        cluster: Cluster,
        *,
        workers: int = WORKERS,
        setup_s: float = 0,
    ) -> None:
        self._cluster = cluster
        self._max_workers, self._setup_s = workers, setup_s
        super().__init__(directory, tasks=1)

    def write_pipeline(self, tasks: int) -> None:
        assert tasks == 1
        (self.root / "first.py").write_text(TASK.format(setup_s=self._setup_s))
        task = {
            "name": "first",
            "kind": "slurm",
            "module": "first.py",
            "input_ext": ".txt",
            "output_ext": ".out",
            "max_workers": self._max_workers,
            "worker_resources": {"cpus": 1, "memory": "1GB", "time": "01:00:00"},
        }
        (self.root / "pipeline.yaml").write_text(json.dumps({"tasks": [task]}))

    def warm_up(self) -> None:
        """Have files processed until all workers have had one."""
        rounds = 0
        while len(self._seen_workers()) < self._max_workers:
            # Ever more: who scales by the work left wants some before the last worker.
            files = 2 ** (rounds + 1) * self._max_workers
            stems = [f"w{rounds}-{number}" for number in range(files)]
            for stem in stems:
                self.move_in(stem, str(WARM_S))
            for stem in stems:
                self.until_done(stem)
            rounds += 1

    def until_all_work(self) -> None:
        """Wait until all workers have finished a file."""
        self._wait(lambda: len(self._seen_workers()) >= self._max_workers, 1)

    def move_in_many(self, count: int) -> float:
        """Let empty files arrive together; return when the first did."""
        before = self.root / "many"
        before.mkdir()
        paths = [before / f"m{number:06}.txt" for number in range(count)]
        for path in paths:
            path.touch()
        arrived = time.time()
        for path in paths:
            path.rename(self.inputs / path.name)
        return arrived

    def _seen_workers(self) -> set[str]:
        # Temporary files are hidden, and may go.
        return {path.read_text() for path in self.finals.glob("[!.]*.out")}

    @property
    def pids(self) -> list[int]:
        """The processes on this host: those of jobs are on the nodes."""
        return [pid for pid in super().pids if _is_here(pid)]

    def until_ended(self) -> None:
        """Wait for the end of all, of jobs as well; cancel those that are left."""
        if jobs := self._cluster.jobs():
            self._cluster.call("scancel", *jobs)
        super().until_ended()
        wait_until(lambda: not self._cluster.jobs(), "all jobs have ended")

    def compile(self) -> Path:
        """Compile the pipeline; return the directory of the workflow."""
        places = (self.root / "pipeline.yaml", self.inputs, self.out)
        self.command("compile", *map(str, places))
        return self.out / ".tigerflow" / "workflow"


def _is_here(pid: int) -> bool:
    try:
        there = Path(f"/proc/{pid}/ns/pid").readlink()
    except OSError:
        return False
    return there == Path("/proc/self/ns/pid").readlink()


class SlurmContest(Contest):
    """The measurements of workers in Slurm jobs."""

    def __init__(
        self, options: argparse.Namespace, directory: Path, cluster: Cluster
    ) -> None:
        super().__init__(options, directory)
        self._busy_s: float = options.busy
        self._cluster = cluster

    @property
    def _contenders(self) -> tuple[Contender, ...]:
        return (OURS, *self._peers)

    def _trial(self, **how: float) -> SlurmTrial:
        return SlurmTrial(self._next_directory(), self._cluster, **how)

    def _all_in_turn(
        self, measure: Callable[[Contender], list[float]]
    ) -> list[tuple[str, list[list[float]]]]:
        """Measure all contenders, as often as is asked for, ours the first."""
        contenders = self._contenders
        measures = {each.name: partial(measure, each) for each in contenders}
        return list(self._in_turn(measures).items())

    def work_rows(self) -> Iterator[Row]:
        """Start over files that take a while."""
        (_, ours), *others = self._all_in_turn(self._work)
        ideal_s = SETUP_S + WORK_FILES * WORK_S / WORKERS
        what = (
            f"{WORK_FILES} files of {WORK_S} s, setup {SETUP_S} s, {WORKERS} workers "
            f"(ideal {ideal_s:.0f} s): start → "
        )
        parts = (("first output", 0, 11), ("last output", 1, 35))
        for (part, position, most), (name, theirs) in (
            (part, other) for part in parts for other in others
        ):
            mine, their = median(ours, position), median(theirs, position)
            yield Row(
                what + part,
                f"{mine:.1f} s",
                f"{name}: {their:.1f} s",
                f"{their / mine:.1f} x",
                f"≤ {most} s",
                holds(mine <= most),
            )

    def _work(self, contender: Contender) -> list[float]:
        trial = self._trial(setup_s=SETUP_S)
        trial.add(WORK_FILES, str(WORK_S))
        with trial.serving(contender) as started:
            done = trial.until_all_done(WORK_FILES)
        return [done[0] - started, done[-1] - started]

    def warm_rows(self) -> Iterator[Row]:
        """Let single files arrive at a worker that is warm."""
        (_, ours), *others = self._all_in_turn(self._arrivals)
        mine = statistics.median(chain(*ours))
        for name, theirs in others:
            their = statistics.median(chain(*theirs))
            yield Row(
                f"warm worker, arrival → output of a file of {ARRIVED_S} s: median of "
                f"{sum(map(len, ours))}, theirs of {sum(map(len, theirs))}",
                f"{mine:.2f} s",
                f"{name}: {their:.1f} s",
                f"{their / mine:.0f} x",
                "≤ 1.0 s",
                holds(mine <= 1),
            )

    def _arrivals(self, contender: Contender) -> list[float]:
        tuned = self._contenders[1]
        counts = {OURS.name: ARRIVALS, tuned.name: PEER_ARRIVALS}
        trial = self._trial(workers=1)
        taken = []
        with trial.serving(contender):
            trial.warm_up()
            for number in range(counts.get(contender.name, PEER_DEFAULT_ARRIVALS)):
                # At no fixed time of anybody's poll.
                time.sleep(self._random.uniform(0.1, 1.1))
                arrived = trial.move_in(f"a{number}", str(ARRIVED_S))
                taken.append(trial.until_done(f"a{number}") - arrived)
        return taken

    def empty_rows(self) -> Iterator[Row]:
        """Let many empty files arrive at workers that are warm."""
        (_, ours), *others = self._all_in_turn(self._empty)
        mine = MANY / median(ours, 0)
        for name, theirs in others:
            their = MANY / median(theirs, 0)
            yield Row(
                f"{MANY:,} empty files, {WORKERS} warm workers, arrival → last output",
                f"{mine:.0f} files/s ({MANY / mine:.1f} s)",
                f"{name}: {their:.0f} files/s ({MANY / their:.1f} s)",
                f"{mine / their:.1f} x",
                "≥ 150 files/s",
                holds(mine >= 150),
            )

    def _empty(self, contender: Contender) -> list[float]:
        trial = self._trial()
        with trial.serving(contender):
            trial.warm_up()
            before = sum(1 for _ in trial.inputs.iterdir())
            arrived = trial.move_in_many(MANY)
            done = trial.until_all_done(before + MANY)
        return [done[-1] - arrived]

    def busy_rows(self) -> Iterator[Row]:
        """Keep many workers busy, and look at what the login node does."""
        for file_s in BUSY_FILES_S:
            (_, ours), *others = self._all_in_turn(lambda c, s=file_s: self._busy(c, s))
            share, memory = median(ours, 0), median(ours, 1)
            for name, theirs in others:
                their_share, their_memory = median(theirs, 0), median(theirs, 1)
                yield Row(
                    f"login node, {BUSY_WORKERS} busy workers, files of {file_s} s: "
                    "of a core, most memory of all processes",
                    f"{share:.1%}, {memory:.0f} MB",
                    f"{name}: {their_share:.1%}, {their_memory:.0f} MB, and a job that "
                    "has its client and scheduler",
                    f"{their_share / share:.1f} x, {their_memory / memory:.1f} x",
                    "< 10 %, < 400 MB",
                    holds(share < 0.1 and memory < 400),
                )

    def _busy(self, contender: Contender, file_s: float) -> list[float]:
        trial = self._trial(workers=BUSY_WORKERS)
        # Enough for a start that takes long.
        duration_s = 3 * (SETTLE_S + self._busy_s) + 10 * file_s
        files = int(BUSY_WORKERS * duration_s / file_s)
        trial.add(files, str(file_s))
        with trial.serving(contender):
            trial.until_all_work()
            time.sleep(SETTLE_S)
            pids = trial.pids
            before, began, memory = cpu_s(pids), time.monotonic(), memory_mb(pids)
            while time.monotonic() < began + self._busy_s:
                time.sleep(LOOK_S)
                memory = max(memory, memory_mb(trial.pids))
            # Of what has ended meanwhile, the parent has the time.
            share = (cpu_s(trial.pids) - before) / (time.monotonic() - began)
            assert trial.count() < files, "they were busy until the end"
        return [share, memory]

    def way_rows(self) -> Iterator[Sequence[str]]:
        """Run empty files in each of the three ways."""
        for name, files, measure in (
            ("`snakemake --profile …/profiles/slurm`", PLAIN_FILES, self._plain),
            ("`snakemake --executor tigerflow`", EXECUTOR_FILES, self._executor),
            ("`tigerflow run`", SERVICE_FILES, self._service),
        ):
            runs = []
            for number in range(self._repeats):
                trial = self._trial()
                trial.add(files, "")
                started = time.time()
                measure(trial)
                done = trial.times()
                assert len(done) == files
                runs.append([done[0] - started, done[-1] - started])
                print(f"{number + 1}. {name}: {runs[-1]}", file=sys.stderr)
            first, last = median(runs, 0), median(runs, 1)
            each = (last - first) / (files - 1)
            shown = f"{each:.2f} s" if each >= 0.1 else f"{each * 1000:.1f} ms"
            yield name, f"{files:,}", f"{first:.1f} s", f"{last:.1f} s", shown

    @staticmethod
    def _plain(trial: SlurmTrial) -> None:
        workflow = trial.compile()
        words = ("-s", str(workflow / "Snakefile"), "--quiet", "all")
        profile = str(workflow / "profiles" / "slurm")
        run_snakemake(trial.root, *words, "--profile", profile)

    @staticmethod
    def _executor(trial: SlurmTrial) -> None:
        workflow = trial.compile()
        words = ("-s", str(workflow / "Snakefile"), "--quiet", "all")
        profile = str(workflow / "profiles" / "tigerflow")
        run_snakemake(trial.root, *words, "--profile", profile)

    @staticmethod
    def _service(trial: SlurmTrial) -> None:
        trial.run_to_end(OURS_ONCE)


#: In the order in which they are measured.
ROWS = {
    "work": SlurmContest.work_rows,
    "warm": SlurmContest.warm_rows,
    "empty": SlurmContest.empty_rows,
    "busy": SlurmContest.busy_rows,
}
WAYS = "ways"


def main() -> None:
    """Run the measurements that are asked for."""
    options = _options()
    if (missing := what_is_missing()) is not None:
        sys.exit(missing)
    # Also when it is told to end, the cluster goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"{machine()}; medians of {options.repeats}; seed {options.seed}\n")
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as directory,
        Cluster(Path(tempfile.mkdtemp(prefix="slurm-"))) as cluster,
    ):
        # For all that is started from here.
        os.environ.update(cluster.environment)
        contest = SlurmContest(options, Path(directory), cluster)
        if names := [name for name in options.only if name != WAYS]:
            print_table(HEAD, (row for name in names for row in ROWS[name](contest)))
        if WAYS in options.only:
            print()
            print_table(WAYS_HEAD, contest.way_rows())
    print_load()


def _options() -> argparse.Namespace:
    parser = options_parser(__doc__, [*ROWS, WAYS], repeats=3)
    parser.add_argument(
        "--busy",
        type=float,
        default=BUSY_S,
        metavar="SECONDS",
        help="how long to look at busy workers (%(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
