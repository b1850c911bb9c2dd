"""Measure what part 1 promises; print a Markdown table.

    python tests/benchmarks/bench_part1.py [--full]

Without `--full` the `script:` rule, which pays its setup for every file, runs 20 files
and its time is scaled to 200.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from flows import SNAKEMAKE, Flow
from runs import Run, World, wait_until
from tables import holds, machine, print_table

from tigerflow.workers import client

CLIENT_CALLS = 200
FILES = 200
SCRIPT_FILES = 20
SETUP_S = 1

COPY = """
    class Work(LocalTask):
        def setup(context): time.sleep({setup})
        def run(context, input_file, output_file):
            output_file.write_text(input_file.read_text())
"""
SCRIPT_RULES = """
STEMS = [path[3:-4] for path in __import__("glob").glob("in/*.txt")]

rule all:
    input: expand("script/{stem}.out", stem=STEMS)

rule work:
    input: "in/{stem}.txt"
    output: "script/{stem}.out"
    script: "work_script.py"
"""
SCRIPT = """
import pathlib, time
time.sleep({setup})
text = pathlib.Path(snakemake.input[0]).read_text()
pathlib.Path(snakemake.output[0]).write_text(text)
"""

Row = tuple[str, str, str, str]


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="run `script:` on all files"
    )
    full = parser.parse_args().full
    rows: list[Row] = []
    for measure in (client_cost, lambda d: workflow_times(d, full=full), start, echo):
        with tempfile.TemporaryDirectory() as directory:
            rows += measure(Path(directory))
    print(f"{machine()}\n")
    print_table(("what", "measured", "goal", "holds"), rows)


def client_cost(directory: Path) -> Iterator[Row]:
    """Compare a rule's command with an empty one."""
    world = World(directory)
    run = world.run()
    run.add_task(COPY.format(setup=0))
    run.process("warm")
    empty, full = [], []
    for number in range(CLIENT_CALLS):
        (run.path / f"f{number}.in").touch()
        empty.append(_shell_time(run, ":"))
        full.append(_shell_time(run, _client_line(run, f"f{number}")))
    run.stop()
    world.close()
    base, cost = statistics.median(empty), statistics.median(full)
    added_ms = (cost - base) * 1000
    what = f"thin client, added to an empty shell command (median of {CLIENT_CALLS})"
    shown = f"{added_ms:.1f} ms ({cost * 1000:.1f} - {base * 1000:.1f})"
    yield what, shown, "<= 30 ms", holds(added_ms <= 30)


def _client_line(run: Run, stem: str) -> str:
    words = f"{sys.executable} -I -S {client.__file__} .tigerflow/workflow"
    return f"{words} {run.owner.pid} work {stem}.in work/{stem}.out"


def _shell_time(run: Run, line: str) -> float:
    # As Snakemake calls a rule's command.
    words = ["bash", "-c", f"set -euo pipefail; {line}"]
    return _time(lambda: subprocess.run(words, cwd=run.path, check=True))


def workflow_times(directory: Path, *, full: bool) -> Iterator[Row]:
    """Compare a compiled workflow with a `script:` rule that does the same."""
    world = World(directory)
    flow = Flow(world)
    flow.add_module(COPY.format(setup=SETUP_S))
    flow.add_inputs(*(f"f{number:03}" for number in range(FILES)))
    flow.compile({"name": "work"})
    ours_s = _time(lambda: _succeed(flow.snakemake(cores=2)))
    world.close()
    count = FILES if full else SCRIPT_FILES
    for path in sorted(flow.inputs.iterdir())[count:]:
        path.unlink()
    (directory / "Snakefile").write_text(SCRIPT_RULES)
    (directory / "work_script.py").write_text(SCRIPT.format(setup=SETUP_S))
    words = [SNAKEMAKE, "-c2", "--scheduler", "greedy", "--quiet", "all"]
    measured_s = _time(lambda: subprocess.run(words, cwd=directory, check=True))
    # Setting up Snakemake itself is paid once, however many files there are.
    once_s = _time(lambda: subprocess.run(words, cwd=directory, check=True))
    theirs_s = once_s + (measured_s - once_s) * FILES / count
    yield f"snakemake -c2, {FILES} files, setup {SETUP_S} s", f"{ours_s:.1f} s", "", ""
    scaled = "" if full else f", scaled from {count} files in {measured_s:.1f} s"
    yield f"the same as a `script:` rule{scaled}", f"{theirs_s:.1f} s", "", ""
    ratio = theirs_s / ours_s
    yield "ratio", f"{ratio:.1f} x", ">= 10 x", holds(ratio >= 10)


def _succeed(result: tuple[int, str]) -> None:
    assert result[0] == 0, result[1]


def start(directory: Path) -> Iterator[Row]:
    """Measure a task's own command line from its start to its first output."""
    taken = []
    for number in range(5):
        inputs, outputs = _directories(directory / str(number), 1)
        words = _echo_words(inputs, outputs)
        began = time.perf_counter()
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        wait_until(lambda path=outputs / "f0.out": path.exists())
        taken.append(time.perf_counter() - began)
        process.wait()
    median_s = statistics.median(taken)
    what = "per-task CLI, start to first file done (median of 5)"
    yield what, f"{median_s:.2f} s", "<= 0.7 s", holds(median_s <= 0.7)


def echo(directory: Path) -> Iterator[Row]:
    """Measure `echo` over few and many small files."""
    few_s, few_mb = _run_echo(directory / "few", 1_000)
    many_s, many_mb = _run_echo(directory / "many", 10_000)
    rate = 10_000 / many_s
    shown = f"{rate:.0f} files/s ({many_s:.1f} s)"
    yield "`echo`, 10,000 small files", shown, ">= 1,000 files/s", holds(rate >= 1000)
    shown = f"{few_mb:.0f} MB, {many_mb:.0f} MB ({few_s:.1f} s, {many_s:.1f} s)"
    more = (many_mb - few_mb) * 2**20 / 9_000
    what = f"its max RSS over 1,000 and 10,000 files: {more:.0f} bytes more a file"
    yield what, shown, "does not grow", ""


def _run_echo(directory: Path, count: int) -> tuple[float, float]:
    inputs, outputs = _directories(directory, count)
    began = time.perf_counter()
    process = subprocess.Popen(_echo_words(inputs, outputs), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    taken = time.perf_counter() - began
    assert process.returncode == 0
    assert sum(1 for _ in outputs.iterdir()) == count
    return taken, usage.ru_maxrss / 1024


def _directories(directory: Path, count: int) -> tuple[Path, Path]:
    inputs, outputs = directory / "in", directory / "out"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    for number in range(count):
        (inputs / f"f{number}.txt").write_text("a small file\n")
    return inputs, outputs


def _echo_words(inputs: Path, outputs: Path) -> list[str]:
    module = [sys.executable, "-m", "tigerflow.library.echo", "--once"]
    places = ["--input-dir", str(inputs), "--output-dir", str(outputs)]
    return [*module, *places, "--input-ext", ".txt", "--output-ext", ".out"]


def _time(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
