"""`--background`: a start that is told of, and a service that no terminal ends."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import DEADLINE_S, lines, wait_until

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}
COPY = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text())
"""
#: A start that lasts until it is let go on.
SLOW_STEP = """
import pathlib, time

here = pathlib.Path(__file__).parent
(here / "begun").touch()
while not (here / "go").exists():
    time.sleep(0.01)

def choose(candidates, context):
    return candidates
"""
CALLABLE = [{"kind": "callable", "function": "steps:choose"}]


@pytest.fixture
def flow(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    return flow


def command(flow, *options):
    words = [flow.pipeline, flow.inputs, flow.out, *options]
    return [sys.executable, "-m", "tigerflow", "watch", *map(str, words)]


def start(flow, *options, **how):
    """Start the command in a session of its own; what it says comes through pipes."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command(flow, "--background", *options),
        cwd=flow.root,
        env=flow.environment,
        text=True,
        start_new_session=True,
        **(streams | how),
    )


def ended(process):
    """Return the exit code, and what it said until nobody could say more."""
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def started(process):
    """Return the id of the service that was started."""
    code, out, err = ended(process)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"Started \(pid \d+\)\n", out)
    return int(out.split()[-1].rstrip(")"))


def service_pid(flow):
    return json.loads((flow.out / ".tigerflow" / "run.pid").read_text())["pid"]


def stop(flow):
    flow.command("stop", flow.out).wait(DEADLINE_S)
    flow.until_nothing_is_left()


def test_background_service_is_up_when_it_says_so_and_runs_until_stopped(flow):
    flow.add_inputs("a")

    # Nobody has the pipes any more when this returns.
    pid = started(start(flow))

    assert service_pid(flow) == pid
    assert os.getsid(pid) == pid
    assert flow.once() == 1
    assert "Pipeline is already running" in flow.said
    flow.until("work/a.out")
    for each in flow.world.processes():
        # A window's process may end just now.
        with contextlib.suppress(FileNotFoundError):
            assert Path(f"/proc/{each}/fd/0").samefile(os.devnull)
    flow.add_inputs("b")
    flow.until("work/b.out")
    stop(flow)
    log = lines(flow.out / ".tigerflow" / "run.log")
    assert log[-1].endswith(" | INFO     | Pipeline shutdown complete")


def with_a_mistake(flow):
    flow.write(WORK | {"colour": "red"})


def with_a_bad_setting(flow):
    flow.environment["TIGERFLOW_WORKER_GRACE"] = "long"


def with_a_step_that_is_not_there(flow):
    flow.write(WORK, steps=CALLABLE)


def without_inputs(flow):
    flow.inputs.rmdir()


def with_a_file_for_outputs(flow):
    flow.out.write_text("a file")
    flow.out /= "out"


def beside_another(flow):
    started(start(flow))


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (with_a_mistake, 2),
        (with_a_bad_setting, 2),
        (with_a_step_that_is_not_there, 2),
        (without_inputs, 2),
        (with_a_file_for_outputs, 1),
        (beside_another, 1),
    ],
)
def test_reason_against_a_start_is_reported_as_in_the_foreground(flow, prepare, code):
    prepare(flow)
    foreground = flow.call(*command(flow))
    assert (foreground.returncode, foreground.stdout) == (code, "")
    assert foreground.stderr

    assert ended(start(flow)) == (code, "", foreground.stderr)

    if prepare is beside_another:
        stop(flow)


def starting(flow, **how):
    """Return the command and the service's id, while that is not up yet."""
    (flow.root / "steps.py").write_text(SLOW_STEP)
    flow.write(WORK, steps=CALLABLE)
    process = start(flow, **how)
    wait_until((flow.root / "begun").exists)
    [child] = [pid for pid in flow.world.processes() if pid != process.pid]
    return process, child


def test_child_that_dies_before_it_is_up_is_reported_and_leaves_nothing(flow):
    process, child = starting(flow)

    os.kill(child, signal.SIGKILL)

    told = "Error: killed by signal 9 before it was up\n"
    assert ended(process) == (128 + signal.SIGKILL, "", told)
    flow.until_nothing_is_left()
    (flow.root / "go").touch()
    started(start(flow))
    stop(flow)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_it_is_up_ends_both(flow, number):
    process, _ = starting(flow)

    process.send_signal(number)
    (flow.root / "go").touch()

    code, out, _ = ended(process)
    assert (code, out) == (128 + number, "")
    flow.until_nothing_is_left()


def test_background_service_survives_its_caller(flow):
    process, child = starting(flow)

    process.kill()
    process.wait()
    (flow.root / "go").touch()
    assert ended(process) == (-signal.SIGKILL, "", "")

    flow.add_inputs("a")
    flow.until("work/a.out")
    assert service_pid(flow) == child
    stop(flow)


def take_terminal():
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def test_background_service_survives_its_terminal(flow):
    leader, follower = pty.openpty()
    terminal = dict.fromkeys(["stdin", "stdout", "stderr"], follower)
    # Its controlling terminal is what sends a hang-up.
    process = start(flow, **terminal, preexec_fn=take_terminal)
    os.close(follower)
    assert process.wait(DEADLINE_S) == 0

    os.close(leader)

    flow.add_inputs("a")
    flow.until("work/a.out")
    assert Path(f"/proc/{service_pid(flow)}").exists()
    stop(flow)


def test_standard_streams_may_be_closed(flow):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command(flow, "-b")],
        cwd=flow.root,
        env=flow.environment,
        check=False,
        timeout=DEADLINE_S,
    )

    assert done.returncode == 0
    flow.add_inputs("a")
    flow.until("work/a.out")
    stop(flow)
