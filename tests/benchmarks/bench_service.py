"""Measure what the service promises, beside others; print a Markdown table.

    python tests/benchmarks/bench_service.py [--repeats N] [--only ROW …]

It is compared with the Dask-based TigerFlow 0.3.1, which is installed in a virtual
environment of its own, and with a Snakefile whose rules run `python task.py` for each
file. All run the same tasks on this machine, in turn; each figure is the median of the
repeats, each ratio one of medians.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from contenders import (
    OURS,
    OURS_DROPPING,
    OURS_ONCE,
    OURS_SCANNING,
    Contender,
    Trial,
    run_naive,
)
from contest import HEAD, Contest, Row, median, options_parser, print_load
from tables import holds, machine, print_table
from usage import cpu_s, memory_mb, peak_mb

from tigerflow.settings import Settings

ARRIVALS = 100
PEER_ARRIVALS = 30
#: At its defaults it takes 18 s for each.
PEER_DEFAULT_ARRIVALS = 5
SCANNED_ARRIVALS = 20
#: Files that go through before arrivals are measured.
WARM_UP = 3

MANY = 2_000
#: The naive workflow runs so many of them, and is scaled: linearly, though Snakemake's
#: time grows faster than that.
NAIVE_FILES = 500

ALL = 100_000
PEER_IDLE_FILES = 20_000
SETTLE_S = 15
IDLE_S = 60


class ServiceContest(Contest):
    """The measurements of services."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        super().__init__(options, directory)
        self._all: int = options.files
        self._all_done: Trial | None = None

    def _trial(self, *, tasks: int = 2) -> Trial:
        return Trial(self._next_directory(), tasks=tasks)

    def latency_rows(self) -> Iterator[Row]:
        """Let single files arrive at a service that is warm."""
        tuned, default = self._peers
        taken = self._in_turn(
            {
                "ours": lambda: self._arrivals(OURS, ARRIVALS, 1),
                "tuned": lambda: self._arrivals(tuned, PEER_ARRIVALS, 1),
                "default": lambda: self._arrivals(default, PEER_DEFAULT_ARRIVALS, 10),
            }
        )
        pooled = {name: sorted(chain(*lists)) for name, lists in taken.items()}
        ours = pooled["ours"]
        median = statistics.median(ours)
        what = "arrival → last output, two tasks, warm"
        for name, title in (("tuned", tuned.name), ("default", default.name)):
            theirs = pooled[name]
            their_median = statistics.median(theirs)
            yield Row(
                f"{what}: median ({len(ours)} arrivals, theirs {len(theirs)})",
                f"{median:.3f} s",
                f"{title}: {their_median:.1f} s",
                f"{their_median / median:.0f} x",
                "≤ 0.15 s",
                holds(median <= 0.15),
            )
        p99, their_p99 = _p99(ours), _p99(pooled["tuned"])
        yield Row(
            f"{what}: p99",
            f"{p99:.3f} s",
            f"{tuned.name}: {their_p99:.1f} s",
            f"{their_p99 / p99:.0f} x",
            "≤ 0.5 s",
            holds(p99 <= 0.5),
        )

    def _arrivals(
        self,
        contender: Contender,
        count: int,
        most_pause_s: float,
        seen: Callable[[Trial, str], float] = Trial.until_done,
    ) -> list[float]:
        """Return how long it is from each arrival until `seen` says."""
        trial = self._trial()
        taken = []
        with trial.serving(contender):
            for number in range(WARM_UP + count):
                arrived = trial.move_in(f"a{number}")
                taken.append(seen(trial, f"a{number}") - arrived)
                # At no fixed time of anybody's poll.
                time.sleep(self._random.uniform(0.1, 0.1 + most_pause_s))
        return taken[WARM_UP:]

    def many_rows(self) -> Iterator[Row]:
        """Start over many small files."""
        tuned, default = self._peers
        measures = {
            contender.name: lambda contender=contender: self._many(contender)
            for contender in (OURS, tuned, default)
        }
        measures["naive Snakemake"] = self._naive
        taken = self._in_turn(measures)
        lasts = {name: median(runs, 1) for name, runs in taken.items()}
        ours = lasts.pop(OURS.name)
        for (name, last), least in zip(lasts.items(), (1.3, 10, 12), strict=True):
            ratio = last / ours
            scaled = f", scaled from {NAIVE_FILES}" if "naive" in name else ""
            yield Row(
                f"{MANY:,} small files, two tasks, start → last output",
                f"{MANY / ours:.0f} files/s ({ours:.1f} s)",
                f"{name}: {MANY / last:.1f} files/s ({last:.1f} s{scaled})",
                f"{ratio:.1f} x",
                f"≥ {least} x",
                holds(ratio >= least),
            )
        firsts = median(taken[OURS.name], 0), median(taken[tuned.name], 0)
        yield Row(
            "the same, start → last output of the first file",
            f"{firsts[0]:.1f} s",
            f"{tuned.name}: {firsts[1]:.1f} s",
            f"{firsts[1] / firsts[0]:.1f} x",
        )

    def _many(self, contender: Contender) -> list[float]:
        trial = self._trial()
        trial.add(MANY)
        with trial.serving(contender) as started:
            done = trial.until_all_done(MANY)
        return [done[0] - started, done[-1] - started]

    def _naive(self) -> list[float]:
        directory = self._next_directory()
        directory.mkdir()
        return [0, run_naive(directory, NAIVE_FILES, MANY)]

    def cold_rows(self) -> Iterator[Row]:
        """Start over one file."""
        tuned, default = self._peers
        taken = self._in_turn(
            {
                contender.name: lambda contender=contender: self._cold(contender)
                for contender in (OURS, tuned, default)
            }
        )
        ours, *others = [median(runs, 0) for runs in taken.values()]
        for name, theirs in zip((tuned.name, default.name), others, strict=True):
            yield Row(
                "cold start → last output of one file, two tasks",
                f"{ours:.2f} s",
                f"{name}: {theirs:.1f} s",
                f"{theirs / ours:.1f} x",
                "≤ 2.5 s",
                holds(ours <= 2.5),
            )

    def _cold(self, contender: Contender) -> list[float]:
        trial = self._trial()
        trial.move_in("a")
        with trial.serving(contender) as started:
            return [trial.until_done("a") - started]

    def all_rows(self) -> Iterator[Row]:
        """Run very many files through one task."""
        runs = [self._run_all() for _ in range(self._repeats)]
        first = statistics.median(run.first_rate for run in runs)
        last = statistics.median(run.last_rate for run in runs)
        yield Row(
            f"{self._all:,} files, one task: last tenth against first",
            f"{last:.0f} against {first:.0f} files/s",
            ratio=f"{last / first:.0%}",
            goal="≥ 80 %",
            holds=holds(last >= 0.8 * first),
        )
        service = statistics.median(run.service_mb for run in runs)
        every = statistics.median(run.every_mb for run in runs)
        yield Row(
            "the same: most memory of the service (of all processes)",
            f"{service:.0f} MB ({every:.0f} MB)",
            goal="< 400 MB",
            holds=holds(service < 400),
        )

    def _run_all(self) -> "_RunOverAll":
        if self._all_done is not None:
            shutil.rmtree(self._all_done.root)
        self._all_done = trial = self._trial(tasks=1)
        trial.add(self._all)
        every_mb = 0.0

        def sample() -> None:
            nonlocal every_mb
            every_mb = max(every_mb, memory_mb(trial.pids))

        with trial.serving(OURS):
            done = trial.until_all_done(self._all, 2, sample)
            service_mb = peak_mb(trial.pids[0])
        tenth = len(done) // 10
        first_rate = tenth / (done[tenth] - done[0])
        last_rate = tenth / (done[-1] - done[-1 - tenth])
        print(f"{first_rate:.0f}, {last_rate:.0f} files/s", file=sys.stderr)
        return _RunOverAll(first_rate, last_rate, service_mb, every_mb)

    @property
    def _finished(self) -> Trial:
        """A run directory with very many finished files."""
        if self._all_done is None:
            self._run_all()
        assert self._all_done is not None
        return self._all_done

    def restart_rows(self) -> Iterator[Row]:
        """Start again over very many finished files, and one that is new."""
        taken = []
        for number in range(self._repeats):
            self._finished.move_in(f"again{time.time_ns()}")
            taken.append(self._finished.run_to_end(OURS_ONCE))
            print(f"{number + 1}. restart: {taken[-1]:.2f}", file=sys.stderr)
        median = statistics.median(taken)
        yield Row(
            f"`watch --once` over {self._all:,} finished files, one new: start → end",
            f"{median:.1f} s",
            goal="≤ 10 s",
            holds=holds(median <= 10),
        )

    def report_rows(self) -> Iterator[Row]:
        """Report on very many finished files."""
        out = str(self._finished.out)
        for words in (["report"], ["report", "--json"]):
            runs = [self._finished.command(*words, out) for _ in range(self._repeats)]
            taken = statistics.median(seconds for seconds, _ in runs)
            most = statistics.median(most for _, most in runs)
            yield Row(
                f"`{' '.join(words)}` on {self._all:,} files",
                f"{taken:.1f} s, {most:.0f} MB",
            )

    def idle_rows(self) -> Iterator[Row]:
        """Idle over finished files."""
        self._finished.move_in(last := f"idle{time.time_ns()}")
        ours = self._idle(self._finished, OURS, last)
        tuned, default = self._peers
        trial = self._trial(tasks=1)
        trial.add(PEER_IDLE_FILES)
        with trial.serving(tuned):
            trial.until_all_done(PEER_IDLE_FILES)
        for contender in (tuned, default):
            trial.move_in(last := f"idle{time.time_ns()}")
            theirs = self._idle(trial, contender, last)
            yield Row(
                f"idle over {self._all:,} files, theirs {PEER_IDLE_FILES:,}: of a core",
                f"{ours:.2%}",
                f"{contender.name}: {theirs:.0%}",
                f"{theirs / ours:.0f} x",
                "< 1 %",
                holds(ours < 0.01),
            )

    def _idle(self, trial: Trial, contender: Contender, last: str) -> float:
        shares = []
        with trial.serving(contender):
            trial.until_done(last)
            time.sleep(SETTLE_S)
            for _ in range(self._repeats):
                pids = trial.pids
                before, began = cpu_s(pids), time.monotonic()
                time.sleep(IDLE_S)
                shares.append((cpu_s(pids) - before) / (time.monotonic() - began))
                print(f"idle, {contender.name}: {shares[-1]:.2%}", file=sys.stderr)
        return statistics.median(shares)

    def scan_rows(self) -> Iterator[Row]:
        """Let files arrive where nothing but a scan finds them."""
        interval_s = Settings().task_poll_interval
        taken = self._in_turn(
            {
                "scans only": lambda: self._arrivals(
                    OURS_SCANNING, SCANNED_ARRIVALS, interval_s, Trial.until_started
                )
            }
        )
        pooled = sorted(chain(*taken["scans only"]))
        goal = interval_s + 0.2
        yield Row(
            f"idle, scans only, arrival → start: longest of {len(pooled)} (median)",
            f"{pooled[-1]:.2f} s ({statistics.median(pooled):.2f} s)",
            goal=f"≤ {goal:.1f} s",
            holds=holds(pooled[-1] <= goal),
        )

    def metadata_rows(self) -> Iterator[Row]:
        """Keep or drop Snakemake's metadata."""
        taken = self._in_turn(
            {
                contender.name: lambda contender=contender: self._metadata(contender)
                for contender in (OURS_ONCE, OURS_DROPPING)
            }
        )
        (kept, kept_dry), (dropped, dropped_dry) = (
            (median(runs, 0), median(runs, 1)) for runs in taken.values()
        )
        yield Row(
            f"{MANY:,} small files, two tasks, `--once`, metadata kept",
            f"{MANY / kept:.0f} files/s ({kept:.1f} s)",
            f"dropped: {MANY / dropped:.0f} files/s ({dropped:.1f} s)",
            f"{dropped / kept:.2f} x",
        )
        yield Row(
            "`snakemake -n` afterwards",
            f"{kept_dry:.1f} s",
            f"dropped: {dropped_dry:.1f} s",
            f"{dropped_dry / kept_dry:.2f} x",
        )

    def _metadata(self, contender: Contender) -> list[float]:
        trial = self._trial()
        trial.add(MANY)
        return [trial.run_to_end(contender), trial.dry_run()]


@dataclass(frozen=True)
class _RunOverAll:
    first_rate: float
    last_rate: float
    service_mb: float
    every_mb: float


#: In the order in which they are measured.
ROWS = {
    "latency": ServiceContest.latency_rows,
    "2k": ServiceContest.many_rows,
    "cold": ServiceContest.cold_rows,
    "100k": ServiceContest.all_rows,
    "restart": ServiceContest.restart_rows,
    "report": ServiceContest.report_rows,
    "idle": ServiceContest.idle_rows,
    "scan": ServiceContest.scan_rows,
    "metadata": ServiceContest.metadata_rows,
}


def main() -> None:
    """Run the measurements that are asked for."""
    options = _options()
    print(f"{machine()}; medians of {options.repeats}; seed {options.seed}\n")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        contest = ServiceContest(options, Path(directory))
        rows = (row for name in options.only for row in ROWS[name](contest))
        print_table(HEAD, rows)
    print_load()


def _options() -> argparse.Namespace:
    parser = options_parser(__doc__, ROWS, repeats=5)
    parser.add_argument(
        "--files", type=int, default=ALL, help=f"instead of {ALL:,}; for a quick look"
    )
    return parser.parse_args()


def _p99(values: list[float]) -> float:
    """Return the nearest rank; `values` are sorted."""
    return values[-(-99 * len(values) // 100) - 1]


if __name__ == "__main__":
    main()
