"""A service whose processes die, whose disk fills up, whose inputs vanish."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from flows import HEAD, LEFT, RIGHT, TIGERFLOW
from mounts import small_disk
from runs import DEADLINE_S, wait_until
from services import NOTHING_TO_DO, TREE, kill

from tigerflow.rundir import journal
from tigerflow.rundir.events import FileDone

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}

FAULTY = """
class Work(LocalTask):
    def setup(context): note("setup")
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        if input_file.stem.startswith("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        if input_file.stem.startswith("wait"):
            output_file.write_text("half")
            wait_for("go")
        output_file.write_text(input_file.read_text())
"""


def test_after_a_kill_and_a_restart_snakemake_has_nothing_to_do(world, flow):
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("a", "wait", "z")
    process = flow.watch()
    wait_until(lambda: "run wait" in flow.noted())
    kill(process.pid)
    process.wait()
    wait_until(lambda: not world.processes(), "all have noticed")
    (flow.root / "go").touch()
    assert flow.once() == 0, flow.said
    assert NOTHING_TO_DO in flow.dry_run()


def test_file_is_tried_again_when_its_worker_is_killed(world, flow):
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("a", "wait", "z")
    process = flow.watch("--once")
    for tries in (1, 2):
        wait_until(lambda n=tries: len(flow.noted("run wait")) == n)
        for pid in world.processes("process.worker"):
            kill(pid)
    wait_until(lambda: len(flow.noted("run wait")) == 3)
    (flow.root / "go").touch()
    assert process.wait(DEADLINE_S) == 0, flow.said
    assert flow.names("work") == ["a.out", "wait.out", "z.out"]
    assert flow.texts("work")["wait.out"] == "wait"
    assert flow.said.count("while processing wait.txt; retrying") == 2


@pytest.mark.parametrize("kind", ["local", "local_async"])
def test_file_that_always_kills_its_worker_fails_and_others_are_done(flow, kind):
    code = FAULTY
    keys = {}
    if kind == "local_async":
        code = FAULTY.replace("LocalTask", "LocalAsyncTask").replace("def", "async def")
        keys = {"kind": kind, "concurrency_limit": 8}
    flow.add_module(code)
    flow.write(WORK | keys)
    stems = [f"f{number:03}" for number in range(200)]
    flow.add_inputs("poison", *stems)
    assert flow.once() == 1
    assert flow.names("work") == [*(f"{s}.out" for s in stems), "poison.err"]
    record = json.loads((flow.out / "work" / "poison.err").read_text())
    assert record["exception_type"] == "WorkerDied"
    assert "SIGKILL" in record["message"]
    assert flow.noted("run poison") == ["run poison"] * 3


def test_how_often_a_file_is_tried_is_a_setting(flow):
    flow.environment["TIGERFLOW_WORKER_ATTEMPTS"] = "1"
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("poison")
    assert flow.once() == 1
    assert flow.names("work") == ["poison.err"]
    assert flow.noted("run poison") == ["run poison"]


@pytest.mark.parametrize("victim", ["window", "forkserver", "workers"])
def test_helper_that_is_killed_is_replaced(world, flow, victim):
    flow.add_module(TREE.replace("class Left", WAITING_LEFT + "class Unused"))
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs(*(f"f{number:02}" for number in range(30)))
    process = flow.watch()
    wait_until(lambda: flow.noted("left"))
    victims = VICTIMS[victim](world, process.pid)
    assert victims
    for pid in victims:
        kill(pid)
    (flow.root / "go").touch()
    flow.until(*(f"left/f{number:02}.md" for number in range(30)))
    flow.add_inputs("later")
    flow.until("left/later.md", "right/later.out")
    assert flow.stop(process) == 130
    assert "Traceback" not in flow.said
    assert not [name for name in flow.names("left") if name.endswith(".err")]
    flow.until_nothing_is_left()


def test_worker_that_is_killed_in_setup_is_replaced(flow):
    flow.add_module("""
        class Work(LocalTask):
            def setup(context):
                note("setup")
                if not os.path.exists("killed"):
                    open("killed", "x").close()
                    os.kill(os.getpid(), signal.SIGKILL)
            def run(context, input_file, output_file): pass
    """)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    assert flow.once() == 0, flow.said
    assert flow.noted() == ["setup", "setup"]
    assert flow.names("work") == ["a.out", "b.out"]


def test_task_that_cannot_run_is_reported_at_once(flow):
    flow.add_module("""
        class Broken(LocalTask):
            def setup(context): raise OSError("no licence")
            def run(context, input_file, output_file): pass

        class Work(LocalTask):
            def run(context, input_file, output_file): wait_for("go")
    """)
    flow.write(WORK, {"name": "broken", "module": "tasks.py:Broken"})
    flow.add_inputs("a")
    process = flow.watch()
    # While the other is at work on the same file.
    flow.until_said("[broken] stopped: task 'broken' cannot run: its setup failed: ")
    (flow.root / "go").touch()
    flow.until("work/a.out")
    assert flow.stop(process) == 130
    assert flow.said.count("] stopped: ") == 1


WAITING_LEFT = """
class Left(LocalTask):
    def run(context, input_file, output_file):
        note(f"left {input_file.stem}")
        wait_for("go")
        output_file.write_text("left")

"""


def _parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _fork_servers(world, service):
    servers = world.processes("multiprocessing.forkserver")
    return [pid for pid in servers if _parent(pid) == service]


def _windows(world, service):
    servers = _fork_servers(world, service)
    children = world.processes("multiprocessing.forkserver")
    return [pid for pid in children if _parent(pid) in servers]


VICTIMS = {
    "window": _windows,
    "forkserver": _fork_servers,
    "workers": lambda world, _: world.processes("process.worker"),
}


def test_full_disk_pauses_the_service_until_there_is_space(flow):
    flow.add_module("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                output_file.write_bytes(bytes(40_000))
    """)
    flow.write(WORK)
    stems = [f"f{number:02}" for number in range(12)]
    flow.add_inputs(*stems)
    with small_disk(flow.out / "work", 200):
        process = flow.watch("--once")
        flow.until_said("No space left on device; paused until this is fixed")
        wait_until(lambda: len(flow.names("work")) >= 4)
        assert process.poll() is None
        moved = 0
        while process.poll() is None and moved < 20:
            # The user makes room: results go elsewhere.
            for path in (flow.out / "work").glob("f*.out"):
                os.truncate(path, 0)
                moved += 1
            wait_until(
                lambda: (
                    process.poll() is not None
                    or any(p.stat().st_size for p in (flow.out / "work").glob("f*.out"))
                )
            )
        assert process.wait(DEADLINE_S) == 0, flow.said
        assert flow.names("work") == [f"{stem}.out" for stem in stems]
    assert "Inputs and results can be read and written again" in flow.said


def test_full_state_directory_pauses_the_service_until_there_is_space(flow):
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("a")
    state = flow.out / ".tigerflow"
    with small_disk(state, 400):
        process = flow.watch()
        flow.until_said("Completed processing 1 file")
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        # More names than fit into what is left of the journal's last block.
        stems = [f"{number:03}" * 60 + "x" for number in range(40)]
        flow.add_inputs(*stems)
        flow.until_said("No space left on device; paused until this is fixed")
        filler.unlink()
        flow.until(*(f"work/{stem}.out" for stem in stems))
        names = {f"{stem}.txt" for stem in stems}
        wait_until(lambda: _journaled(state, FileDone) >= names)
        assert flow.stop(process) == 130
    flow.until_nothing_is_left()
    assert "Traceback" not in flow.said


def _journaled(state, event):
    # The last line may be in the middle of being written.
    events = journal.read(state / "journal.jsonl")
    return {each.file for each in events if isinstance(each, event)}


@pytest.mark.parametrize(
    "name", ["run.log", "logs/snakemake.log", "requests", "answers", "run.lock"]
)
def test_service_names_a_special_file_in_its_way_and_exits(flow, name):
    flow.add_module(FAULTY)
    flow.write(WORK)
    planted = flow.out / ".tigerflow" / name
    planted.parent.mkdir(parents=True)
    os.mkfifo(planted)
    assert flow.watch().wait(DEADLINE_S) == 1
    assert f": {planted.name} is not a regular file. No files were lost" in flow.said
    assert "Traceback" not in flow.said


def test_fifo_in_place_of_what_snakemake_has_in_the_making_is_removed(flow):
    flow.add_module(FAULTY)
    flow.write(WORK)
    (flow.inputs / "a.txt").write_text("a")
    planted = flow.out / ".snakemake" / "incomplete"
    planted.parent.mkdir(parents=True)
    os.mkfifo(planted)
    assert flow.watch("--once").wait(DEADLINE_S) == 0
    assert planted.is_dir()


@pytest.mark.parametrize("home", ["missing", "a file", "full"])
def test_service_runs_without_a_home_of_use(flow, tmp_path, home):
    # Not even root can make a directory there.
    place = Path("/proc/none") if home == "missing" else tmp_path / "home"
    flow.environment["HOME"] = str(place)
    flow.environment.pop("XDG_CACHE_HOME", None)
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("a")
    with contextlib.ExitStack() as stack:
        if home == "full":
            stack.enter_context(small_disk(place, 64))
            (place / "all of it").write_bytes(bytes(60 * 1024))
        elif home == "a file":
            place.touch()
        assert flow.once() == 0, flow.said
    assert flow.names("work") == ["a.out"]


def test_service_runs_for_a_user_without_an_account(flow):
    unshare = shutil.which("unshare")
    words = [unshare or "unshare", "--user", "--map-user=12345"]
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs unshare(1), and user namespaces")
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("a")
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        flow.environment.pop(name, None)
    words += [*TIGERFLOW, "watch", "--once", flow.pipeline, flow.inputs, flow.out]
    done = flow.call(*words)
    assert done.returncode == 0, done.stderr
    assert flow.names("work") == ["a.out"]
    assert not (flow.out / "~").exists()


def snakemake_directory_is_a_file(flow):
    flow.out.mkdir()
    (flow.out / ".snakemake").touch()
    return "FileExistsError"


def plugin_cannot_be_imported(flow):
    plugin = flow.root / "plugins" / "snakemake_executor_plugin_broken"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("raise RuntimeError('half a plugin')")
    flow.environment["PYTHONPATH"] = str(plugin.parent)
    return "RuntimeError: half a plugin"


@pytest.mark.parametrize(
    "prepare", [snakemake_directory_is_a_file, plugin_cannot_be_imported]
)
def test_service_says_why_snakemake_cannot_run_and_ends(flow, prepare):
    reason = prepare(flow)
    flow.add_module(FAULTY)
    flow.write(WORK)
    flow.add_inputs("a")
    assert flow.watch().wait(DEADLINE_S) == 1
    assert f"Error: Snakemake cannot run: {reason}" in flow.said
    assert "Traceback" not in flow.said
    assert flow.names("work") == []


def test_service_continues_after_tmp_was_cleaned(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT)
    flow.add_inputs("a")
    service = flow.watch()
    flow.until("head/a.out")
    for path in flow.runtime_files():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    flow.add_inputs("b", "c")

    flow.until("head/b.out", "head/c.out", "left/b.md", "left/c.md")
    assert flow.stop(service) == 130
    assert not list(flow.out.glob("*/*.err"))
    flow.until_nothing_is_left()


def test_service_runs_when_somebody_else_has_its_directory_in_tmp(flow):
    directory = Path(f"/tmp/tigerflow-{os.getuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    theirs = flow.root / "theirs"
    theirs.mkdir()
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", script, "sh", theirs, directory]
    # Nobody has this id.
    if os.getuid() != 0 or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("only root can have a directory be somebody else's")
    os.chown(theirs, 4_000_001, -1)
    flow.add_module(TREE)
    flow.write(HEAD, LEFT)
    flow.add_inputs("a")
    words = ["watch", "--once", flow.pipeline, flow.inputs, flow.out]

    done = flow.call(*inside, *TIGERFLOW, *words)

    assert done.returncode == 0, done.stderr
    assert flow.names("left") == ["a.md"]
    assert [*theirs.iterdir()] == []
