"""A service whose clock jumps, and inputs from clocks that are wrong."""

import shutil
import subprocess
from pathlib import Path

import pytest
from flows import HEAD, LEFT, RIGHT
from runs import DEADLINE_S, wait_until
from services import NOTHING_TO_DO, TREE, Watched

from tigerflow.rundir.events import TaskDone

pytestmark = pytest.mark.snakemake

HOUR_S = 3600


def add_dated(flow, ahead_s, *stems):
    """Move in files from a clock that is ahead."""
    for stem in stems:
        flow.replace(f"{stem}.txt", stem, age_s=-ahead_s)


@pytest.mark.parametrize("keep", [True, False])
def test_inputs_of_a_clock_that_is_ahead_are_done_or_failed_once(flow, keep):
    flow.add_module(TREE)
    flow.write(HEAD | {"keep_output": keep}, LEFT, RIGHT)
    add_dated(flow, HOUR_S, "a", "bad", "left")
    flow.add_inputs("now")
    process = flow.watch()
    flow.until("right/a.out", "left/now.md", "head/bad.err", "left/left.err")
    add_dated(flow, HOUR_S, "later")
    flow.until("left/later.md", "right/later.out")
    flow.until_said("Completed processing 1 file")
    assert flow.stop(process) == 130
    assert flow.once() == 1
    runs = [line for line in flow.noted() if "setup" not in line]
    assert len(runs) == len(set(runs)), "nothing is done twice"
    assert flow.texts("right") == {
        f"{stem}.out": f"{stem.upper()}>" for stem in ("a", "left", "later", "now")
    }
    assert '"ValueError"' in (flow.out / "head" / "bad.err").read_text()
    assert flow.names("left") == ["a.md", "later.md", "left.err", "now.md"]
    # Plain Snakemake knows no `.err`: but for those files, it has nothing to do.
    for stem in ("bad", "left"):
        (flow.inputs / f"{stem}.txt").unlink()
    assert NOTHING_TO_DO in flow.dry_run()


def test_the_executor_takes_inputs_of_a_clock_that_is_ahead(flow):
    flow.add_module(TREE)
    flow.compile(HEAD, LEFT, RIGHT)
    add_dated(flow, HOUR_S, "a", "b")
    code, said = flow.snakemake("--executor", "tigerflow")
    assert code == 0, said
    assert NOTHING_TO_DO in flow.dry_run()
    assert flow.once() == 0
    assert len(flow.noted("head ")) == 2


class Clock:
    """The time of day of processes, to be set while they run."""

    def __init__(self, directory: Path, compiler: str) -> None:
        library = directory / "clock.so"
        source = Path(__file__).parents[1] / "support" / "clock.c"
        words = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(words, check=True)
        self._path = directory / "clock"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "TEST_CLOCK": str(self._path)}

    def jump(self, ahead_s: int) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(str(ahead_s))
        temporary.replace(self._path)


@pytest.fixture
def clock(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    return Clock(tmp_path, compiler)


WAITING = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        note(f"run {input_file.stem} {int(time.time())}")
        if input_file.stem == "wait":
            wait_for("go")
        output_file.write_text(input_file.read_text())
"""


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_clock_that_jumps_changes_nothing(world, clock, jump_s):
    flow = Watched(world, **clock.environment)
    flow.add_module(WAITING)
    flow.write({"name": "work", "module": "tasks.py:Work", "timeout": 600})
    flow.add_inputs("a", "wait")
    process = flow.watch()
    wait_until(lambda: flow.noted("run wait"))
    clock.jump(jump_s)
    (flow.root / "go").touch()
    flow.until("work/a.out", "work/wait.out")
    # What comes has the new time: a changed file may be older than before.
    add_dated(flow, jump_s, "b")
    flow.until("work/b.out")
    wait_until(lambda: flow.settled("a", "wait", "b"))
    flow.replace("a.txt", "new", age_s=-jump_s)
    wait_until(lambda: flow.texts("work").get("a.out") == "new")
    assert flow.command("report", flow.out).wait(DEADLINE_S) == 0
    assert flow.command("stop", flow.out).wait(DEADLINE_S) == 0
    assert process.wait(DEADLINE_S) == 143
    assert flow.once() == 0
    told = [line.split()[1:] for line in flow.noted()]
    assert sorted(name for name, _ in told) == ["a", "a", "b", "wait"]
    # The clock did jump, but no duration did.
    times = {name: int(at) for name, at in told if name != "a"}
    assert abs(times["b"] - times["wait"] - jump_s) < HOUR_S / 2
    durations = [event.seconds for event in flow.events(TaskDone)]
    assert all(0 <= seconds < HOUR_S / 2 for seconds in durations)
    assert "Traceback" not in flow.said
