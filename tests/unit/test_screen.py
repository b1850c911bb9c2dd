"""A report as text: what stands in it, and that it fits narrow terminals."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tigerflow.cli._screen import Screen
from tigerflow.report.as_json import SECTIONS
from tigerflow.report.run_report import Failure, RunReport, TaskReport, Timing
from tigerflow.rundir.judgement import FileState
from tigerflow.rundir.lock import Holder

AT = "2026-11-22T05:00:00+00:00"


def failure(directory, stem, message, kind="ValueError"):
    path = directory / f"{stem}.err"
    path.write_text(json.dumps({"exception_type": kind, "message": message}))
    return Failure(stem, f"{stem}.txt", f"{stem}.txt", path, None, has_input=True)


def task(name, *, seconds=(), failures=(), **fields):
    counts = {"processed": 40, "staged": 0} | fields
    timings = {f"f{n}": Timing(AT, s, succeeded=True) for n, s in enumerate(seconds)}
    return TaskReport(
        name=name,
        input_ext=".txt",
        timings=timings,
        failures=tuple(failures),
        **counts,
    )


def report(tasks, *, running=0, queued=0, holder=None, **files):
    counts = dict.fromkeys(FileState, 0)
    counts |= {FileState(state): count for state, count in files.items()}
    return RunReport(Path("/out"), holder, counts, tuple(tasks), running, queued)


def text_of(found, width=80, *, terminal=True, sections=SECTIONS):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None
    )
    console.print(Screen(found, console, sections, Path("results")), crop=terminal)
    return console.file.getvalue()


def test_running_files_are_told_apart_from_waiting_ones():
    found = report(
        [task("clean", running=("a", "b"))],
        running=2,
        queued=4,
        holder=Holder(7, "here"),
        finished=3,
        in_progress=7,
        staged=1,
    )

    lines = text_of(found, 200, sections=["progress"]).splitlines()

    assert lines[0] == (
        "Progress: 3 of 11 done, 2 running, 4 queued, 1 partly done, 1 waiting"
    )
    assert lines[-1].endswith("40 of 11, 2 running")


def test_nothing_is_in_progress_when_no_service_runs():
    found = report([task("clean")], finished=3, in_progress=6)

    text = text_of(found, sections=["progress"])

    assert text.startswith("Progress: 3 of 9 done, 6 partly done\n")


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("seconds", [[0.0005, 0.2145, 0.0005], [80.5, 7200, 3599.9]])
def test_nothing_is_cut_on_a_narrow_terminal(width, seconds):
    tasks = [
        task("clean", seconds=seconds, running=("a",)),
        task("summarize_texts", seconds=seconds, processed=100_000),
    ]
    found = report(
        tasks,
        finished=99_000,
        errored=400,
        in_progress=500,
        staged=100,
        running=1,
        queued=499,
        holder=Holder(7, "here"),
    )

    text = text_of(found, width, sections=["progress", "metrics"])

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace("summarize_t…", "").replace("summarize_te…", "")
    assert text.count(" avg)") == 2
    assert "100000/100000" in text.replace(" of ", "/")
    assert "499 queued" in text
    assert "100 waiting\n" in text


def test_failures_that_are_alike_are_one_group_the_largest_first(tmp_path):
    odd = failure(tmp_path, "odd", "something else\nand more")
    alike = [
        failure(tmp_path, f"scan_{n}", f"no word in scan_{n}.txt, line {n}")
        for n in range(3)
    ]
    other = failure(tmp_path, "x", "no word in x.txt, line 9", "TypeError")
    found = report([task("clean", failures=[odd, *alike, other])], errored=5)

    text = text_of(found, 200, sections=["errors"], terminal=False)

    assert text.splitlines() == [
        "Errors:   5 in 5 files",
        f"  {tmp_path}/scan_0.err and 2 more",
        "    ValueError: no word in scan_0.txt, line 0",
        f"  {tmp_path}/odd.err",
        "    ValueError: something else",
        f"  {tmp_path}/x.err",
        "    TypeError: no word in x.txt, line 9",
        f"  In full: tigerflow report results {tmp_path}/scan_0.err",
    ]
