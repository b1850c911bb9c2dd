"""A service that is asked to stop, at any moment and whatever its tasks do."""

import signal

import pytest
from flows import HEAD, LEFT, RIGHT
from lives import END, START, Life
from runs import DEADLINE_S, wait_until
from services import TREE, Watched

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}

MOMENTS = START | {
    "works": lambda life: len(life.notes) > 10,
    "has results": lambda life: len(life.flow.names("right")) > 10,
    "is idle": lambda life: len(life.flow.names("right")) == 30,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_stop_at_any_moment_leaves_nothing(flow, moment):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs(*(f"f{number}" for number in range(30)))
    life = Life.start(flow)
    life.until(MOMENTS[moment], moment)
    code = flow.stop(life.process)
    if moment in ("runs", "has imported yaml"):
        # Python itself ends at the signal, as long as it is importing.
        assert code in {130, -signal.SIGINT, 1}, flow.said
    else:
        assert code == 130, flow.said
        assert "Traceback" not in flow.said
    flow.until_nothing_is_left()
    assert flow.once() == 0, flow.said
    assert len(flow.names("right")) == len(flow.names("left")) == 30
    runs = [line for line in flow.noted() if not line.endswith("head")]
    assert len(runs) == len(set(runs)) == 90, "files in progress were finished"


@pytest.mark.parametrize("moment", START)
def test_second_request_while_it_starts_leaves_nothing(flow, moment):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs(*(f"f{number}" for number in range(30)))
    life = Life.start(flow)
    life.until(START[moment], moment)
    life.process.terminate()
    life.until(END["knows"], "knows")
    # Python itself ends at the first, as long as it is importing.
    assert flow.stop(life.process) in {130, -signal.SIGTERM, 1}, flow.said
    flow.until_nothing_is_left()


@pytest.mark.parametrize("moment", ["knows", "tears down", "says that it is over"])
def test_second_request_while_it_ends_leaves_nothing(flow, moment):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs(*(f"f{number}" for number in range(30)))
    life = Life.start(flow)
    life.until(MOMENTS["works"])
    life.process.terminate()
    life.until(END[moment], moment)
    # At last the signal is Python's own again.
    assert flow.stop(life.process) in {130, 143, -signal.SIGINT}, flow.said
    flow.until_nothing_is_left()


DEAF = """
import subprocess
class Work(LocalTask):
    def run(context, input_file, output_file):
        subprocess.Popen(["sleep", "1000"])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        output_file.write_text("half")
        note("run")
        while True:
            try:
                time.sleep(60)
            except BaseException:
                note("asked")
"""


@pytest.mark.parametrize("how", ["patience", "force", "signals"])
def test_task_that_ignores_all_requests_is_killed_with_its_children(world, how):
    flow = Watched(world, TIGERFLOW_WORKER_GRACE="1" if how == "patience" else "1000")
    flow.add_module(DEAF)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    process = flow.watch()
    wait_until(lambda: flow.noted("run") and world.processes("sleep"))
    match how:
        case "patience":
            process.terminate()
        case "force":
            assert flow.command("stop", flow.out, "--force").wait(DEADLINE_S) == 0
        case "signals":
            process.terminate()
            flow.until_said("initiating shutdown")
            process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) in {130, 143}, flow.said
    assert flow.names("work") == []
    flow.until_nothing_is_left()
    # No fresh worker has taken up the file.
    assert flow.noted("run") == ["run"]
    assert "retrying" not in flow.said


#: Has the service wait where it starts a worker, and go on only while it ends.
WAITING = """
import asyncio, os, pathlib, sys, time

if "watch" in sys.orig_argv:
    here, end = pathlib.Path(__file__).parent, os._exit
    go_on = asyncio.{step}

    async def wait(*words, **more):
        (here / "waits").touch()
        while not (here / "ends").exists():
            await asyncio.sleep(0.01)
        return await go_on(*words, **more)

    def end_slowly(code):
        (here / "ends").touch()
        time.sleep(1)
        end(code)

    asyncio.{step}, os._exit = wait, end_slowly
"""


@pytest.mark.parametrize("step", ["create_subprocess_exec", "open_connection"])
def test_second_request_while_a_worker_starts_leaves_nothing(flow, step):
    place = flow.root / "waiting"
    place.mkdir()
    (place / "sitecustomize.py").write_text(WAITING.format(step=step))
    flow.environment["PYTHONPATH"] = str(place)
    flow.add_module(TREE)
    # Nobody but the service ends this one: it never comes to hear of the end.
    flow.write(HEAD | {"setup_commands": ["sleep 1000"]})
    flow.add_inputs("a")
    process = flow.watch()
    wait_until((place / "waits").exists, lambda: f"it waits: {flow.said}")
    is_there = step == "open_connection"
    wait_until(lambda: bool(flow.world.processes("sleep 1000")) == is_there)
    process.terminate()
    flow.until_said("initiating shutdown")
    assert flow.stop(process) == 130, flow.said
    flow.until_nothing_is_left()
