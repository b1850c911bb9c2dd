"""Measure the page of a report on very many files; print a Markdown table.

    python tests/benchmarks/bench_report.py [--files N] [--repeats N] [--seed N]

The run directory is made up: three tasks, one in Slurm jobs, with a journal as the
service writes it. What counts for making a page is CPU time, also on a busy machine.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from browsers import Look, a_browser
from journals import write_run
from tables import holds, machine, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    print(machine(), f"seed {options.seed}", sep=", ")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "results"
        page = Path(directory) / "report.html"
        write_run(out, options.files, seed=options.seed)

        def median(measure: Callable[[], float]) -> float:
            return statistics.median(measure() for _ in range(options.repeats))

        text_s = median(lambda: _report_cpu_s(out))
        page_s = median(lambda: _report_cpu_s(out, "--html", page))
        opened_s = median(lambda: _opened_s(page))
        size_mb = page.stat().st_size / 1e6
    name = f"on {options.files:,} files, three tasks"
    print_table(
        ("what", "TigerFlow", "goal", "holds"),
        [
            (f"`report` {name}: CPU", f"{text_s:.1f} s", "", ""),
            (f"`report --html` {name}: CPU", f"{page_s:.1f} s", "", ""),
            ("its page", f"{size_mb:.2f} MB", "< 5 MB", holds(size_mb < 5)),
            (
                "the page in Chromium: opened → last chart drawn",
                f"{opened_s:.2f} s",
                "≤ 2 s",
                holds(opened_s <= 2),
            ),
        ],
    )


def _report_cpu_s(out: Path, *options: object) -> float:
    words = [sys.executable, "-m", "tigerflow", "report", out, *options]
    before = _children_cpu_s()
    subprocess.run([*map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return _children_cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _opened_s(page: Path) -> float:
    with a_browser() as browser:
        started = time.monotonic()
        with Look(browser, page):
            return time.monotonic() - started


if __name__ == "__main__":
    main()
