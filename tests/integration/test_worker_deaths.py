"""What happens to files when workers, hosts, clients or Snakemake are killed."""

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path

import pytest
from runs import DEADLINE_S, finish, wait_until

from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers import client as thin_client
from tigerflow.workers.dispatch.local import LocalLauncher
from tigerflow.workers.protocol import Answer, Fate, FileRequest, Ready

#: `run` of a file named `wait…` never ends; each step is noted.
WAITING = """
    class Work(LocalTask):
        def setup(context): note("setup")
        def run(context, input_file, output_file):
            note(f"run {input_file.stem} {os.getpid()}")
            output_file.write_text("half")
            if input_file.stem.startswith("wait"):
                wait_for("go")
            if input_file.stem.startswith("freeze"):
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                wait_for("go")
            output_file.write_text("whole")
        def teardown(context): note("teardown")
"""
WAITING_ASYNC = """
    import asyncio
    class Work(LocalAsyncTask):
        async def setup(context): note("setup")
        async def run(context, input_file, output_file):
            note(f"run {input_file.stem} {os.getpid()}")
            output_file.write_text("half")
            while input_file.stem.startswith("wait") and not os.path.exists("go"):
                await asyncio.sleep(0.01)
            output_file.write_text("whole")
            note(f"done {input_file.stem}")
        async def teardown(context): note("teardown")
"""
GIVEN_UP = (1, "tigerflow: given up: the run has ended\n")
HOST_DIED = (1, "tigerflow: the worker host died; see .tigerflow/logs/host.log\n")


def _start_waiting(run, stem="wait"):
    client = run.start(stem)
    wait_until(lambda: run.noted(f"run {stem} "), f"{stem} runs")
    return client


def _worker_of(run, stem="wait"):
    return int(run.noted(f"run {stem} ")[0].split()[-1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGHUP])
def test_worker_killed_while_it_runs_a_file_fails_that_file_alone(world, number):
    run = world.run()
    run.add_task(WAITING)
    client = _start_waiting(run)
    os.kill(_worker_of(run), number)
    name = signal.Signals(number).name
    message = f"the worker was killed by signal {int(number)} ({name}) while processing"
    assert finish(client) == (1, f"tigerflow: {message} wait.in (see work/wait.err)\n")
    record = run.record("wait")
    assert record["exception_type"] == "WorkerDied"
    assert record["message"] == f"{message} wait.in"
    assert run.names() == ["wait.err"]
    assert run.process("next") == (0, "")
    assert len(run.noted("setup")) == 2


def test_what_a_killed_worker_wrote_under_other_names_is_removed(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                if input_file.stem == "poison":
                    output_file.with_name(output_file.name + ".npy").touch()
                    output_file.with_suffix(".zarr").mkdir()
                    os.kill(os.getpid(), 9)
    """)
    assert run.process("poison")[0] == 1
    assert run.names() == ["poison.err"]


def test_answers_of_a_worker_that_died_are_heard_though_more_is_sent_to_it(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                if input_file.stem == "poison":
                    os.kill(os.getpid(), 9)
                output_file.touch()
    """)
    (run.path / "work").mkdir()
    (run.path / "a.in").touch()
    told = run.path / ".tigerflow" / "workflow" / "tasks" / "work.json"
    launcher = LocalLauncher(
        WorkerTask.from_json(told.read_text()), run.path, run.path / "alive"
    )

    def request(number, stem):
        paths = (f"{stem}.in", f"work/{stem}.out", f"work/{stem}.err")
        return FileRequest(number, *paths, more=False)

    async def talk():
        link = await launcher.launch()
        link.send(request(1, "a"))
        end = os.pidfd_open(link.pid)
        link.send(request(2, "poison"))
        # A loop that is late: meanwhile, it hears nothing.
        assert select.select([end], [], [], DEADLINE_S)[0]
        os.close(end)
        link.send(request(3, "next"))
        ending = asyncio.create_task(link.wait())
        heard = [message async for message in link.receive()]
        how = (await ending).how
        link.remove_temporaries(run.path / "work")
        return heard, how

    (ready, answer), how = asyncio.run(talk())
    assert isinstance(ready, Ready)
    assert isinstance(answer, Answer)
    assert (answer.id, answer.fate) == (1, Fate.DONE)
    assert how == "was killed by signal 9 (SIGKILL)"


def test_files_that_wait_when_the_worker_is_killed_get_a_new_one(world):
    run = world.run()
    run.add_task(WAITING)
    first = _start_waiting(run)
    others = [run.start(f"f{number}") for number in range(5)]
    # All have asked once a later file of another task is through.
    run.add_task(WAITING, "other")
    assert run.process("a", "other") == (0, "")
    os.kill(_worker_of(run), signal.SIGKILL)
    assert finish(first)[0] == 1
    assert [finish(client) for client in others] == [(0, "")] * 5


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("os._exit(3)", "ended with exit code 3"),
        ("os._exit(0)", "ended with exit code 0"),
        ("os.kill(os.getpid(), 64)", "was killed by signal 64 (SIGRTMAX)"),
        ("os.kill(os.getpid(), 40)", "was killed by signal 40 (unknown)"),
        ("import ctypes; ctypes.string_at(0)", "was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_file_that_ends_its_worker_fails_and_says_how(world, ending, message):
    run = world.run()
    run.add_task(f"""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                if input_file.stem == "poison":
                    print("last words", flush=True)
                    {ending}
    """)
    assert run.process("before") == (0, "")
    assert run.process("poison")[0] == 1
    record = run.record("poison")
    assert record["message"] == f"the worker {message} while processing poison.in"
    assert "last words\n" in record["printed"]
    assert run.process("after") == (0, "")


def test_segfault_shows_where_in_the_task_it_was(world):
    run = world.run()
    run.add_task("""
        import ctypes
        class Work(LocalTask):
            def run(context, input_file, output_file):
                ctypes.string_at(0)
    """)
    assert run.process("a")[0] == 1
    printed = run.record("a")["printed"]
    assert "Fatal Python error: Segmentation fault" in printed
    assert 'work.py", line' in printed
    assert "in run" in printed


def test_async_worker_killed_names_all_files_it_had(world):
    run = world.run()
    run.add_task(WAITING_ASYNC, concurrency_limit=3)
    clients = [_start_waiting(run, f"wait{number}") for number in range(3)]
    os.kill(_worker_of(run, "wait0"), signal.SIGKILL)
    assert [finish(client)[0] for client in clients] == [1] * 3
    assert run.record("wait1")["message"] == (
        "the worker was killed by signal 9 (SIGKILL) while processing wait1.in "
        "and 2 other files"
    )
    assert run.names() == [f"wait{number}.err" for number in range(3)]


def test_worker_killed_without_a_file_blames_none(world):
    run = world.run()
    run.add_task(WAITING)
    assert run.process("a") == (0, "")
    pid = _worker_of(run, "a")
    os.kill(pid, signal.SIGKILL)
    # A host that has not seen the end yet would send the next file to a dead worker.
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    log = run.path / ".tigerflow" / "logs" / "work.log"
    # Its prints come there, at the latest, when its end has been seen.
    wait_until(log.exists, "its end is seen")
    assert run.process("b") == (0, "")
    assert len(run.noted("setup")) == 2


def test_worker_killed_in_setup_stops_the_task_and_blames_no_file(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context):
                note("setup")
                os.kill(os.getpid(), signal.SIGKILL)
            def run(context, input_file, output_file): pass
    """)
    results = [run.process(stem) for stem in "ab"]
    assert [code for code, _ in results] == [1, 1]
    assert results[0][1].startswith(
        "tigerflow: task 'work' cannot run: its worker was killed by signal 9 "
        "(SIGKILL) before it was ready",
    )
    assert run.names() == []
    assert run.noted() == ["setup"]


def test_worker_killed_with_a_child_that_left_its_session_hangs_nothing(world):
    run = world.run()
    run.add_task(
        WAITING,
        setup_commands=["setsid sleep 1000 &"],
    )
    client = _start_waiting(run)
    os.kill(_worker_of(run), signal.SIGKILL)
    assert finish(client)[0] == 1
    assert run.process("next") == (0, "")
    run.stop()
    # A process that goes to such lengths to stay is left alone; not by this test.
    for pid in world.processes("sleep 1000"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("code", [WAITING, WAITING_ASYNC])
def test_run_killed_under_a_file_leaves_it_undone_and_tears_down(world, code):
    run = world.run()
    run.add_task(code)
    client = _start_waiting(run)
    run.end_owner()
    assert finish(client) == GIVEN_UP
    wait_until(lambda: not world.processes("tigerflow"))
    assert run.noted("teardown") == ["teardown"]
    assert run.names() == []
    assert run.runtime_files() == []


def test_run_killed_under_a_file_that_cannot_be_interrupted(world):
    run = world.run(TIGERFLOW_WORKER_GRACE="1")
    run.add_task(WAITING)
    client = _start_waiting(run, "freeze")
    run.end_owner()
    assert finish(client) == GIVEN_UP
    wait_until(lambda: not world.processes("tigerflow"))
    assert run.names() == []


def test_run_killed_lets_no_file_that_waits_start(world):
    run = world.run()
    run.add_task(WAITING)
    clients = [_start_waiting(run), run.start("b"), run.start("c")]
    run.add_task(WAITING, "other")
    assert run.process("a", "other") == (0, "")
    run.end_owner()
    assert [finish(client) for client in clients] == [GIVEN_UP] * 3
    wait_until(lambda: not world.processes("tigerflow"))
    assert [note.split()[1] for note in run.noted("run")] == ["wait", "a"]


def test_second_run_keeps_the_host_when_the_first_ends(world):
    run = world.run()
    run.add_task(WAITING)
    run.process("a")
    first, run._owner = run._owner, None
    run.process("b")
    first.kill()
    first.wait()
    assert run.process("c") == (0, "")
    assert len(run.noted("setup")) == 1


def test_next_run_starts_while_the_killed_ones_worker_tears_down(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file): pass
            def teardown(context):
                note("teardown begins")
                wait_for("go")
                note("teardown ends")
    """)
    assert run.process("a") == (0, "")
    run.end_owner()
    run.until_noted("teardown begins")
    client = run.start("b")
    wait_until(lambda: len(world.processes("dispatch.host")) == 2)
    (run.path / "go").touch()
    assert finish(client) == (0, "")
    # What setup opens may allow a single user: the two never overlap.
    assert run.noted() == ["setup", "teardown begins", "teardown ends", "setup"]


@pytest.mark.parametrize("code", [WAITING, WAITING_ASYNC])
def test_host_killed_under_a_file_fails_it_and_the_next_client_starts_another(
    world,
    code,
):
    run = world.run()
    run.add_task(code)
    client = _start_waiting(run)
    (host,) = world.processes("dispatch.host")
    os.kill(host, signal.SIGKILL)
    assert finish(client) == HOST_DIED
    assert run.process("next") == (0, "")
    assert [note for note in run.noted() if "down" in note or note == "setup"] == [
        "setup",
        "teardown",
        "setup",
    ]
    assert run.names() == ["next.out"]


def test_host_killed_while_it_tears_down_keeps_the_next_one_waiting(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file): pass
            def teardown(context):
                note("teardown begins")
                wait_for("go")
                note("teardown ends")
    """)
    assert run.process("a") == (0, "")
    (host,) = world.processes("dispatch.host")
    os.kill(host, signal.SIGKILL)
    run.until_noted("teardown begins")
    client = run.start("b")
    wait_until(lambda: world.processes("dispatch.host"))
    (run.path / "go").touch()
    assert finish(client) == (0, "")
    assert run.noted() == ["setup", "teardown begins", "teardown ends", "setup"]


def test_host_killed_leaves_no_child_of_the_task(world):
    run = world.run()
    run.add_task("""
        import subprocess
        class Work(LocalTask):
            def run(context, input_file, output_file):
                subprocess.Popen(["sleep", "1000"])
    """)
    assert run.process("a") == (0, "")
    (host,) = world.processes("dispatch.host")
    os.kill(host, signal.SIGKILL)
    wait_until(lambda: not world.processes("sleep"))
    _remove_leftovers(run)


def test_host_killed_under_a_file_that_cannot_be_interrupted(world):
    run = world.run(TIGERFLOW_WORKER_GRACE="1")
    run.add_task(WAITING)
    client = _start_waiting(run, "freeze")
    (host,) = world.processes("dispatch.host")
    os.kill(host, signal.SIGKILL)
    assert finish(client) == HOST_DIED
    wait_until(lambda: not world.processes("tigerflow"))
    assert run.names() == []
    _remove_leftovers(run)


def test_all_killed_at_once_the_next_run_removes_what_they_left(world):
    run = world.run()
    run.add_task(WAITING)
    client = _start_waiting(run)
    # At once: the worker would clean up while it sees only the host die.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in [*world.processes("tigerflow"), client.pid]:
            os.kill(pid, number)
    client.communicate()
    run.end_owner()
    wait_until(lambda: not Path(f"/proc/{_worker_of(run)}").exists())
    (left,) = run.names()
    assert left.startswith(".~tf_")
    assert run.process("next") == (0, "")
    assert run.names() == ["next.out"]


def test_host_that_gets_sigterm_tears_down(world):
    run = world.run()
    run.add_task(WAITING)
    client = _start_waiting(run)
    (host,) = world.processes("dispatch.host")
    os.kill(host, signal.SIGTERM)
    assert finish(client) == GIVEN_UP
    wait_until(lambda: not world.processes("workers."))
    assert run.noted("teardown") == ["teardown"]


def test_worker_that_gets_sigterm_tears_down(world):
    run = world.run()
    run.add_task(WAITING)
    client = _start_waiting(run)
    os.kill(_worker_of(run), signal.SIGTERM)
    assert finish(client)[0] == 1
    assert run.noted("teardown") == ["teardown"]
    assert run.process("next") == (0, "")


def test_client_killed_while_its_file_waits_takes_the_file_with_it(world):
    run = world.run()
    run.add_task(WAITING)
    first = _start_waiting(run)
    with contextlib.chdir(run.path):
        waiting = thin_client.connect()
    (run.path / "b.in").touch()
    words = [".tigerflow/workflow", str(run.owner.pid), "work", "b.in", "work/b.out"]
    request = thin_client.RunRequest(b"", [os.fsencode(word) for word in words])
    thin_client.send(waiting, request.fields())
    assert thin_client.receive(waiting) == [thin_client.ACCEPTED]
    waiting.close()
    # The host has seen that by the time it has served another.
    run.add_task(WAITING, "other")
    assert run.process("a", "other") == (0, "")
    (run.path / "go").touch()
    assert finish(first) == (0, "")
    assert run.process("c") == (0, "")
    assert not run.noted("run b ")
    assert not run.output("b").exists()


def test_file_whose_client_was_killed_comes_again_and_is_run_once_at_a_time(world):
    run = world.run()
    run.add_task(WAITING_ASYNC, concurrency_limit=2)
    first = _start_waiting(run)
    first.kill()
    first.communicate()
    again = run.start("wait")
    (run.path / "go").touch()
    assert finish(again) == (0, "")
    assert run.output("wait").read_text() == "whole"
    # It had the answer of the first run, or came after that.
    noted = [line.split()[0] for line in run.noted()]
    once = ["run", "done"]
    assert [word for word in noted if word in once] in (once, once + once)
    # Both places are free again.
    (run.path / "go").unlink()
    clients = [_start_waiting(run, f"wait{number}") for number in range(2)]
    (run.path / "go").touch()
    assert [finish(client) for client in clients] == [(0, "")] * 2
    assert len(run.noted("setup")) == 1


def test_interrupted_client_prints_no_traceback(world):
    run = world.run()
    run.add_task(WAITING)
    client = _start_waiting(run)
    client.send_signal(signal.SIGINT)
    assert finish(client) == (-signal.SIGINT, "")


def _remove_leftovers(run):
    """Only a host removes them, and the test has killed it."""
    for path in run.runtime_files():
        path.unlink()


def test_worker_that_dies_with_its_output_directory_blocks_no_one(world):
    run = world.run()
    run.add_task("""
        import shutil
        class Work(LocalTask):
            def run(context, input_file, output_file):
                shutil.rmtree(output_file.parent)
                os._exit(3)
    """)

    code, said = run.process("a")

    assert code == 1
    assert "Cannot write to output directory" in said
