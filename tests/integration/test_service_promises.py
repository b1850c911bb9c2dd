"""What the service promises of results, of its end, and of being alone."""

import contextlib
import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from flows import HEAD, LEFT, RIGHT
from runs import DEADLINE_S, wait_until
from services import TREE, Watched, kill

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}

WAITING = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        wait_for("go")
        output_file.write_text(input_file.read_text())
"""

# Results

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100


class Changes:
    """What happens in a directory, by inotify(7): all that could show content."""

    def __init__(self, directory):
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        path = os.fsencode(directory)
        assert libc.inotify_add_watch(self._descriptor, path, mask) >= 0

    def read(self):
        """Return (name, mask) of all events so far."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, 1 << 16):
                while data:
                    _, mask, _, size = struct.unpack_from("iIII", data)
                    found.append((os.fsdecode(data[16:][:size].rstrip(b"\0")), mask))
                    data = data[16 + size :]
        os.close(self._descriptor)
        return found


def test_outputs_and_errors_appear_whole_under_their_names(flow):
    flow.add_module("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                with output_file.open("w") as file:
                    for _ in range(5):
                        print("part", file=file, flush=True)
                if input_file.stem == "bad":
                    raise ValueError("bad")
    """)
    flow.write(WORK)
    stems = [f"f{number}" for number in range(20)]
    flow.add_inputs("bad", *stems)
    (flow.out / "work").mkdir(parents=True)
    changes = Changes(flow.out / "work")
    assert flow.once() == 1
    (flow.inputs / "f0.txt").write_text("again")
    assert flow.once() == 1
    seen = [(name, mask) for name, mask in changes.read() if not name.startswith(".~")]
    assert {mask for _, mask in seen} == {_IN_MOVED_TO}
    names = [name for name, _ in seen]
    assert sorted(names) == sorted(["bad.err", *(f"{s}.out" for s in stems), "f0.out"])


def test_half_done_branches_are_resumed_after_a_kill(flow):
    flow.add_module(TREE.replace('note(f"left {input_file.stem}")', WAIT_LEFT))
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("a", "b")
    process = flow.watch()
    flow.until("right/a.out", "right/b.out")
    wait_until(lambda: flow.noted("left"))
    kill(process.pid)
    process.wait()
    (flow.root / "go").touch()
    assert flow.once() == 0
    assert flow.noted("head ") == ["head a", "head b"]
    assert flow.noted("right ") == ["right a", "right b"]
    assert flow.names("left") == ["a.md", "b.md"]


WAIT_LEFT = 'note(f"left {input_file.stem}"); wait_for("go")'


@pytest.mark.parametrize("value", [True, False, None])
def test_param_that_is_on_by_default_can_be_switched_off(flow, value):
    flow.add_module("""
        class Work(LocalTask):
            class Params:
                loud: bool = True
            def run(context, input_file, output_file):
                output_file.write_text(repr(context.loud))
    """)
    params = {} if value is None else {"params": {"loud": value}}
    flow.write(WORK | params)
    flow.add_inputs("a")
    assert flow.once() == 0
    assert flow.texts("work") == {"a.out": repr(value is not False)}


def test_names_with_dots_and_files_that_fail_twice_are_counted_once(flow):
    flow.add_module("""
        class Head(LocalTask):
            def run(context, input_file, output_file): pass
        class Branch(LocalTask):
            def run(context, input_file, output_file):
                if "bad" in input_file.name:
                    raise ValueError("bad")
    """)
    branch = {"depends_on": "head", "module": "tasks.py:Branch", "input_ext": ".x.gz"}
    flow.write(
        {"name": "head", "module": "tasks.py:Head"}
        | {"input_ext": ".tar.gz", "output_ext": ".x.gz"},
        {"name": "left"} | branch,
        {"name": "right", "output_ext": ".b.c"} | branch,
    )
    for name in ("a.tar.gz", "a.b.tar.gz", "bad.tar.gz", "bad.tar.tar.gz"):
        (flow.inputs / name).write_text("t")
    assert flow.once() == 1
    assert flow.command("report", flow.out, "--json").wait(DEADLINE_S) == 0
    report = json.loads(flow.said[flow.said.index("{") :])
    counts = report["progress"]["pipeline"]
    assert (counts["total"], counts["finished"], counts["errored"]) == (4, 2, 2)
    assert counts["staged"] == counts["in_progress"] == 0
    assert sorted(report["errors"]) == ["left", "right"]


# The end

#: The service, with less patience than the command line can give it.
IDLE = """
import sys
from pathlib import Path
from tigerflow.compiler.compiled import compile_workflow
from tigerflow.log import configure
from tigerflow.service.options import ServiceOptions
from tigerflow.pipeline.spec import load_pipeline
from tigerflow.service.service import Service
from tigerflow.settings import Settings
configure()
pipeline, inputs, out = map(Path, sys.argv[1:])
loaded = load_pipeline(pipeline)
workflow = compile_workflow(loaded, inputs, out)
options = ServiceOptions(idle_timeout_s=0.3)
service = Service(loaded, workflow, options, Settings())
sys.exit(service.run(lambda controls: None))
"""


def test_time_in_which_a_file_is_in_flight_is_not_idle(flow):
    flow.add_module("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                note(f"run {input_file.stem}")
                time.sleep(2)
                output_file.write_text("done")
    """)
    flow.write(WORK)
    flow.add_inputs("a")
    words = [sys.executable, "-c", IDLE, flow.pipeline, flow.inputs, flow.out]
    done = flow.call(*words)
    assert done.returncode == 0, done.stderr
    assert flow.texts("work") == {"a.out": "done"}
    assert flow.noted() == ["run a"]
    completed = done.stderr.index("Completed processing 1 file")
    assert completed < done.stderr.index("Idle timeout reached")


@pytest.mark.parametrize("code", ["os.kill(os.getpid(), 9)", "os._exit(3)", "1 / 0"])
def test_task_that_dies_in_each_setup_hangs_nothing(flow, code):
    flow.add_module(f"""
        class Dead(LocalTask):
            def setup(context):
                note("setup")
                {code}
            def run(context, input_file, output_file): pass
        class Fine(LocalTask):
            def run(context, input_file, output_file): pass
    """)
    flow.write(
        {"name": "dead", "module": "tasks.py:Dead"},
        {"name": "fine", "module": "tasks.py:Fine"},
        {"name": "after", "module": "tasks.py:Fine", "depends_on": "dead"}
        | {"input_ext": ".out"},
    )
    flow.add_inputs("a", "b")
    assert flow.once() == 1
    assert flow.names("fine") == ["a.out", "b.out"]
    assert flow.names("dead") == flow.names("after") == []
    assert flow.said.count("[dead] stopped") == 1
    assert len(flow.noted("setup")) <= 3


# Being alone


class OtherHost:
    """Another host of a cluster: its own name, locks and sockets, the same files."""

    def __init__(self, flow: Watched) -> None:
        self._flow = flow
        self._runtime = f"/tmp/tigerflow-{os.getuid()}"
        Path(self._runtime).mkdir(mode=0o700, exist_ok=True)
        self._lock = flow.root / "lock of the other"
        self._lock.touch()

    def command(self, *words: object) -> "subprocess.Popen[str]":
        lock = self._flow.out / ".tigerflow" / "run.lock"
        script = (
            'hostname other && mount --bind "$1" "$2" && mount -t tmpfs none "$3" '
            '&& chmod 700 "$3" && shift 3 && exec "$@"'
        )
        host = ["unshare", "--uts", "--mount", "sh", "-c", script, "sh"]
        host += [str(self._lock), str(lock), self._runtime]
        with self._flow.log.open("a") as log:
            process = subprocess.Popen(
                [*host, sys.executable, "-m", "tigerflow", *map(str, words)],
                cwd=self._flow.root,
                env=self._flow.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                process_group=0,
            )
        self._flow._started.append(process)
        return process

    def watch(self, *options: str) -> "subprocess.Popen[str]":
        flow = self._flow
        return self.command("watch", flow.pipeline, flow.inputs, flow.out, *options)


@pytest.fixture
def other(flow):
    words = ["unshare", "--uts", "--mount", "hostname", "other"]
    if shutil.which("unshare") is None or subprocess.run(words, check=False).returncode:
        pytest.skip("another host cannot be made here")
    return OtherHost(flow)


def test_service_of_another_host_refuses_stops_and_takes_over(flow, other):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    process = flow.watch()
    wait_until(lambda: flow.noted("run"))
    assert other.watch("--once").wait(DEADLINE_S) == 1
    assert f"Pipeline is already running (pid {process.pid} on " in flow.said
    assert other.command("stop", flow.out).wait(DEADLINE_S) == 0
    assert "Asked pipeline to stop" in flow.said
    flow.until_said("initiating shutdown")
    (flow.root / "go").touch()
    assert process.wait(DEADLINE_S) == 143
    assert other.watch("--once").wait(DEADLINE_S) == 0, flow.said
    assert flow.names("work") == ["a.out", "b.out"]
    assert len(flow.noted("run")) == 2
    flow.until_nothing_is_left()


def test_service_of_another_host_takes_over_from_a_dead_one_not_a_live_one(flow, other):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    wait_until(lambda: flow.noted("run"))
    kill(process.pid)
    process.wait()
    # It is not known to be dead before it has missed three beats.
    assert other.watch("--once").wait(DEADLINE_S) == 1
    old = (flow.out / ".tigerflow" / "run.pid").stat().st_mtime - 60
    os.utime(flow.out / ".tigerflow" / "run.pid", (old, old))
    (flow.root / "go").touch()
    assert other.watch("--once").wait(DEADLINE_S) == 0, flow.said
    assert flow.texts("work") == {"a.out": "a"}
    # What it left outside the run directory goes with the next start on its host.
    assert flow.once() == 0


def test_services_started_on_two_hosts_at_once_do_not_both_run(flow, other):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a")
    (flow.out / ".tigerflow").mkdir(parents=True)
    (flow.out / ".tigerflow" / "run.lock").touch()
    pair = [flow.watch(), other.watch()]
    wait_until(lambda: flow.noted("run"))
    wait_until(lambda: any(process.poll() is not None for process in pair))
    (flow.root / "go").touch()
    (live,) = [process for process in pair if process.poll() is None]
    flow.until("work/a.out")
    assert flow.stop(live) == 130
    assert flow.said.count("Pipeline is already running") == 1
    assert flow.noted("run") == ["run a"]
