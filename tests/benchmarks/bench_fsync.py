"""Measure what it costs to have each result on disk; print a Markdown table.

    python tests/benchmarks/bench_fsync.py [--files N] [--directory DIR]

The tasks only copy their input, so nothing else takes time. TIGERFLOW_FSYNC is 0 and 1
by turns.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from tables import machine, print_table

from tigerflow.tasks.execution import Batch
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.strays import Strays

HEAD = ("one file at a time, median of", "without", "with", "more")


class Comparison:
    """Measurements in one directory."""

    def __init__(self, directory: Path, strays: Strays) -> None:
        """Write to `directory`."""
        self._directory = directory
        self._strays = strays
        self._source = directory / "input"
        self._source.touch()

    def row(self, name: str, count: int, run: Callable[[Path], object]) -> list[str]:
        """Return what `run` takes without and with it, `count` times each."""
        taken: dict[str, list[float]] = {"0": [], "1": []}
        for number in range(count):
            for value, times in taken.items():
                os.environ["TIGERFLOW_FSYNC"] = value
                times.append(self._settle(f"{number}-{value}", run))
        off, on = (statistics.median(times) for times in taken.values())
        return [
            f"{count}: {name}",
            f"{off:.2f} ms",
            f"{on:.2f} ms",
            f"{on - off:.2f} ms",
        ]

    def _settle(self, stem: str, run: Callable[[Path], object]) -> float:
        """Return how long a file takes, in milliseconds."""
        place = self._directory
        job = FileJob(self._source, place / f"{stem}.out", place / f"{stem}.err")
        batch = Batch("bench", [job], self._strays)
        start_s = time.perf_counter()
        with batch.attempt() as [(_, output)]:
            run(output)
            batch.sync()
        seconds = time.perf_counter() - start_s
        job.output.unlink(missing_ok=True)
        return seconds * 1000


def rows(comparison: Comparison, files: int) -> Iterator[list[str]]:
    """Yield the rows of the table."""
    for name, size, share in (
        ("1 kB", 10**3, 1),
        ("1 MB", 10**6, 2),
        ("100 MB", 10**8, 20),
    ):
        content = bytes(size)
        yield comparison.row(
            f"a result of {name}",
            files // share,
            lambda output, content=content: output.write_bytes(content),
        )
    yield comparison.row("a result to which nothing is written", files, lambda _: None)
    yield comparison.row("a failure, with its `.err`", files, lambda _: 1 / 0)


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--directory", type=Path, help="default: as tempfile's")
    options = parser.parse_args()
    print(f"{machine()}\n")
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as place,
        Strays() as strays,
    ):
        print_table(HEAD, rows(Comparison(Path(place), strays), options.files))


if __name__ == "__main__":
    main()
