"""What the workers of a task do for the clients of a run; without Snakemake."""

import os
import resource
from pathlib import Path

import pytest
from runs import finish, wait_until

COPY = """
    class Work(LocalTask):
        def setup(context): note("setup")
        def run(context, input_file, output_file):
            output_file.write_text(input_file.read_text())
        def teardown(context): note("teardown")
"""


def test_setup_runs_once_for_many_files(world):
    run = world.run()
    run.add_task(COPY)
    results = [run.process(f"f{number}") for number in range(10)]
    said = run.stop()
    assert results == [(0, "")] * 10
    assert run.output("f9").read_text() == "content of 'f9'"
    assert said == ""
    assert run.noted() == ["setup", "teardown"]


def test_run_directories_share_no_worker(world):
    one, two = world.run("one"), world.run("two")
    for run in (one, two):
        run.add_task(COPY)
        assert run.process("a") == (0, "")
    one.stop()
    assert one.noted() == ["setup", "teardown"]
    assert two.noted() == ["setup"]
    assert two.process("b") == (0, "")
    assert two.noted() == ["setup"]


def test_one_run_directory_by_two_paths_shares_the_worker(world):
    run = world.run("real")
    run.add_task(COPY)
    run.process("a")
    link = world.directory / "link"
    link.symlink_to(run.path)
    run.path = link
    assert run.process("b") == (0, "")
    assert run.noted() == ["setup"]


@pytest.mark.parametrize(
    "name",
    [
        "/".join(["d" * 200] * 4),
        "two words 'single' \"double\"",
        "new\nline",
        "$(touch pwned) `x` %s {stem} * ; & \\",
        "-dash",
        "münchen.tar.gz",
    ],
)
def test_any_run_directory_works(world, name):
    run = world.run(name)
    run.add_task(COPY, setup_commands=["true"])
    assert run.process("a") == (0, "")
    assert run.stop() == ""
    assert run.noted() == ["setup", "teardown"]


@pytest.mark.parametrize(
    "stem",
    [
        "two words",
        'it\'s "quoted"',
        "new\nline",
        "{stem} {{x}} *?[a] %s $(id) `id` \\n ; & | ~ #",
        "-rf",
        ".hidden",
        "ünïcödé 文件",
        os.fsdecode(b"not-utf8-\xff\xfe"),
        "n" * 251,
        "a.b.tar",
        " ",
    ],
)
def test_any_file_name_is_processed(world, stem):
    run = world.run()
    run.add_task(COPY)
    assert run.process(stem) == (0, "")
    assert run.names() == [f"{stem}.out"]


@pytest.mark.parametrize("stem", ["new\nline", os.fsdecode(b"not-utf8-\xff"), "-rf"])
def test_any_file_name_has_an_err_when_it_fails(world, stem):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                raise ValueError(input_file.name)
    """)
    code, said = run.process(stem)
    assert code == 1
    assert said.startswith("tigerflow: ")
    assert run.names() == [f"{stem}.err"]
    assert run.record(stem)["file"] == f"{stem}.in"


def test_failed_file_has_an_err_until_it_succeeds(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                print("looking at", input_file)
                if not pathlib.Path("mended").exists():
                    raise ValueError("broken\\nsecond line")
    """)
    code, said = run.process("a")
    assert (code, said) == (
        1,
        "tigerflow: a.in failed: ValueError: broken (see work/a.err)\n",
    )
    record = run.record("a")
    assert record["exception_type"] == "ValueError"
    assert record["message"] == "broken\nsecond line"
    assert record["printed"] == f"looking at {run.path}/a.in\n"
    assert record["task"] == "work"
    (run.path / "mended").touch()
    assert run.process("a") == (0, "")
    assert run.names() == ["a.out"]


def test_endless_message_of_an_exception_harms_nothing(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                raise ValueError("é" * 3_000_000)
    """)
    code, said = run.process("a")
    assert code == 1
    assert len(said) < 2000
    assert len(run.record("a")["message"]) == 3_000_000
    assert run.process("b")[0] == 1


def test_setup_that_raises_is_reported_once_and_blames_no_file(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context):
                note("setup")
                raise ConnectionError("no licence server")
            def run(context, input_file, output_file): pass
    """)
    results = [run.process(stem) for stem in "abc"]
    log = run.path / ".tigerflow/logs/work.log"
    said = (
        "tigerflow: task 'work' cannot run: its setup failed: "
        f"ConnectionError: no licence server (see {log})\n"
    )
    assert results == [(1, said)] * 3
    assert run.names() == []
    assert run.noted() == ["setup"]
    assert "Traceback" in run.log()


def test_setup_that_raised_is_retried_by_the_next_run(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context):
                note("setup")
                if not pathlib.Path("mended").exists():
                    raise ConnectionError("no licence server")
            def run(context, input_file, output_file): pass
    """)
    assert run.process("a")[0] == 1
    run.stop()
    (run.path / "mended").touch()
    assert run.process("a") == (0, "")
    assert run.noted() == ["setup"] * 2


def test_setup_that_raised_is_retried_after_the_run_was_killed(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context):
                note("setup")
                raise ConnectionError("no licence server")
            def run(context, input_file, output_file): pass
    """)
    assert run.process("a")[0] == 1
    run.end_owner()
    wait_until(lambda: not world.processes("dispatch.host"))
    assert run.process("a")[0] == 1
    assert run.noted() == ["setup"] * 2


def test_failing_setup_command_is_named_with_its_exit_code(world):
    run = world.run()
    run.add_task(
        COPY,
        setup_commands=[
            "echo to the log",
            "ls /nowhere; (exit 7) # why",
            "touch never",
        ],
    )
    code, said = run.process("a")
    log = run.path / ".tigerflow/logs/work.log"
    assert code == 1
    assert said == (
        "tigerflow: task 'work' cannot run: its setup command failed: "
        "ls /nowhere; (exit 7) # why (exit code 7); last output: "
        f"ls: cannot access '/nowhere': No such file or directory (see {log})\n"
    )
    assert "to the log" in run.log()
    assert run.names() == []
    assert not (run.path / "never").exists()


def test_failing_setup_command_of_several_lines_is_named_by_its_first(world):
    run = world.run()
    run.add_task(COPY, setup_commands=["for i in 1 2\ndo\n  false\ndone"])
    code, said = run.process("a")
    assert code == 1
    assert "its setup command failed: for i in 1 2 … (exit code 1) (see" in said


def test_setup_commands_are_one_shell(world):
    run = world.run()
    run.add_task(
        """
        class Work(LocalTask):
            def run(context, input_file, output_file):
                output_file.write_text(f"{os.environ['PLACE']} {os.environ['TWO']}")
        """,
        setup_commands=[
            "cd /",
            'export PLACE="$PWD"',
            "f() { export TWO=$1; }",
            "f 2",
            # They may print and read: neither harms the worker's messages.
            "echo printed; cat",
        ],
    )
    assert run.process("a") == (0, "")
    assert run.output("a").read_text() == "/ 2"
    assert "printed" in run.log()


def test_setup_commands_may_leave_a_process_behind(world):
    run = world.run()
    run.add_task(COPY, setup_commands=["sleep 1000 &"])
    assert run.process("a") == (0, "")
    assert run.stop() == ""
    wait_until(lambda: not world.processes("sleep 1000"))


def test_python_without_an_activated_environment_is_ours(world):
    run = world.run(PATH="/usr/bin:/bin")
    run.add_task(COPY, setup_commands=["true"])
    assert run.process("a") == (0, "")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import nothing_of_that_name",
            "No module named 'nothing_of_that_name'",
        ),
        ("class Work(LocalTask: pass", "SyntaxError: "),
        ("x = 1", "work.py has no task; write a class that derives from LocalTask"),
        ("class Work(LocalTask): pass", "Task Work has no run"),
        ("sys.exit(3)", "work.py exits while it is imported"),
    ],
)
def test_module_that_cannot_be_used_is_explained(world, code, reason):
    run = world.run()
    run.add_task(code)
    exit_code, said = run.process("a")
    assert exit_code == 1
    assert said.startswith("tigerflow: task 'work' cannot run: its setup failed: ")
    assert reason in said
    assert said.count("\n") == 1
    assert run.names() == []


def test_params_that_no_longer_fit_the_module_are_named(world):
    run = world.run()
    run.add_task(
        """
        class Work(LocalTask):
            class Params:
                size: int = 1
            def run(context, input_file, output_file): pass
        """,
        params={"size": "large"},
    )
    code, said = run.process("a")
    assert code == 1
    assert "its setup failed: params.size: " in said


def test_workflow_without_the_task_is_explained(world):
    run = world.run()
    code, said = run.process("a", "absent")
    assert code == 1
    assert said.endswith("absent.json'; run `tigerflow compile` again\n")


def test_teardown_that_raises_is_reported_at_the_end(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file): pass
            def teardown(context): raise OSError("cannot close")
    """)
    assert run.process("a") == (0, "")
    log = run.path / ".tigerflow/logs/work.log"
    assert run.stop() == (
        f"task 'work': teardown failed: OSError: cannot close (see {log})"
    )


def test_hanging_teardown_is_killed_after_the_grace_time(world):
    run = world.run(TIGERFLOW_WORKER_GRACE="1")
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file): pass
            def teardown(context):
                note("teardown")
                wait_for("never")
    """)
    assert run.process("a") == (0, "")
    assert run.stop() == (
        "task 'work': a worker was killed by signal 9 (SIGKILL) before its teardown "
        "was finished; it has 1 s for it"
    )
    assert run.noted() == ["teardown"]


def test_stop_gives_up_the_file_in_progress_and_those_that_wait(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                note(f"run {input_file.stem}")
                wait_for("never")
            def teardown(context): note("teardown")
    """)
    clients = [run.start(stem) for stem in "abc"]
    wait_until(lambda: run.noted("run"))
    run.stop()
    given_up = (1, "tigerflow: given up: the run has ended\n")
    results = [finish(client) for client in clients]
    # One that comes as the host leaves starts a new host, which is not stopped.
    assert given_up in results
    assert run.noted("run")[0] == run.noted()[0]
    assert "teardown" in run.noted()


def test_stop_without_a_host_or_a_file_does_nothing(world):
    run = world.run()
    run.add_task(COPY)
    assert run.stop() == ""
    assert world.processes("tigerflow") == []
    run.process("a")
    run.stop()
    assert run.stop() == ""
    assert run.noted() == ["setup", "teardown"]


def test_stop_while_setup_runs_ends_it(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context):
                note("setup")
                wait_for("never")
            def run(context, input_file, output_file): pass
            def teardown(context): note("teardown")
    """)
    client = run.start("a")
    run.until_noted("setup")
    assert run.stop() == ""
    assert finish(client) == (1, "tigerflow: given up: the run has ended\n")
    assert run.noted() == ["setup"]


def test_idle_worker_and_host_end_and_a_later_file_gets_new_ones(world):
    run = world.run(TIGERFLOW_WORKER_IDLE_TIMEOUT="1")
    run.add_task(COPY)
    assert run.process("a") == (0, "")
    wait_until(lambda: not world.processes("tigerflow"), "worker and host have ended")
    assert run.runtime_files() == []
    assert run.noted() == ["setup", "teardown"]
    assert run.process("b") == (0, "")
    assert run.noted() == ["setup", "teardown", "setup"]


def test_idle_worker_leaves_while_another_task_continues(world):
    run = world.run(TIGERFLOW_WORKER_IDLE_TIMEOUT="1")
    run.add_task(COPY)
    run.add_task(
        """
        class Slow(LocalTask):
            def run(context, input_file, output_file):
                note("slow")
                wait_for("go")
        """,
        "slow",
    )
    client = run.start("a", "slow")
    assert run.process("a") == (0, "")
    run.until_noted("teardown")
    assert run.process("b") == (0, "")
    (run.path / "go").touch()
    assert finish(client) == (0, "")
    assert len(world.processes("dispatch.host")) == 1


@pytest.mark.parametrize("task", ["LocalAsyncTask"])
def test_async_limit_is_reached_and_never_passed(world, task):
    run = world.run()
    run.add_task(
        f"""
        import asyncio
        in_flight = 0
        class Work({task}):
            async def run(context, input_file, output_file):
                global in_flight
                in_flight += 1
                note(f"in flight {{in_flight}}")
                while not pathlib.Path("go").exists():
                    await asyncio.sleep(0.01)
                in_flight -= 1
        """,
        concurrency_limit=5,
    )
    clients = [run.start(f"f{number}") for number in range(12)]
    run.until_noted("in flight 5")
    (run.path / "go").touch()
    assert [finish(client) for client in clients] == [(0, "")] * 12
    assert len(run.noted()) == 12
    assert max(run.noted()) == "in flight 5"


def test_local_task_has_one_file_at_a_time_however_many_wait(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                alone = pathlib.Path("busy")
                alone.touch(exist_ok=False)
                note(f"{os.getpid()}")
                time.sleep(0.02)
                alone.unlink()
    """)
    clients = [run.start(f"f{number}") for number in range(10)]
    assert [finish(client) for client in clients] == [(0, "")] * 10
    assert len(run.noted()) == 10
    assert len(set(run.noted())) == 1


def test_slurm_task_on_one_machine_uses_up_to_its_workers(world):
    run = world.run()
    run.add_task(
        """
        class Work(SlurmTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file):
                note(f"run {os.getpid()}")
                wait_for("go")
            def teardown(context): note("teardown")
        """,
        workers=3,
    )
    clients = [run.start(f"f{number}") for number in range(7)]
    wait_until(lambda: len(run.noted("run")) == 3)
    (run.path / "go").touch()
    assert [finish(client) for client in clients] == [(0, "")] * 7
    run.stop()
    assert len(run.noted("setup")) == 3
    assert len(set(run.noted("run"))) == 3
    assert len(run.noted("teardown")) == 3


def test_short_files_handed_over_ahead_do_not_wait_for_a_long_one(world):
    run = world.run()
    run.add_task(
        """
        class Work(LocalTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file):
                note(f"run {input_file.stem}")
                if input_file.stem == "long":
                    wait_for("go")
        """,
        workers=2,
    )
    assert run.process("short") == (0, "")
    long = run.start("long")
    run.until_noted("run long")
    # All that is known of the task says that the next is done in a moment.
    assert [run.process(f"f{number}") for number in range(3)] == [(0, "")] * 3
    (run.path / "go").touch()
    assert finish(long) == (0, "")
    assert len(run.noted("setup")) == 2
    assert len(run.noted("run")) == 5


def test_clients_that_start_at_once_share_one_host(world):
    run = world.run()
    run.add_task(COPY)
    clients = [run.start(f"f{number}") for number in range(20)]
    assert [finish(client) for client in clients] == [(0, "")] * 20
    assert len(world.processes("dispatch.host")) == 1
    assert run.noted() == ["setup"]


def test_task_may_print_read_and_start_processes(world):
    run = world.run()
    run.add_task("""
        import multiprocessing, subprocess
        def double(number): return 2 * number
        class Work(LocalTask):
            def run(context, input_file, output_file):
                print("a line")
                os.write(1, b"past Python\\n")
                assert sys.stdin.read() == ""
                assert subprocess.run(["cat"], capture_output=True).stdout == b""
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    output_file.write_text(str(pool.map(double, [21])))
    """)
    assert run.process("a") == (0, "")
    assert run.output("a").read_text() == "[42]"
    assert run.process("b") == (0, "")
    assert "a line" in run.log()
    assert "past Python" in run.log()


def test_children_that_outlive_the_task_are_ended(world):
    run = world.run()
    run.add_task("""
        import subprocess
        class Work(LocalTask):
            def run(context, input_file, output_file):
                subprocess.Popen(["sleep", "1000"])
    """)
    assert run.process("a") == (0, "")
    assert run.stop() == ""
    wait_until(lambda: not world.processes("sleep"))


def test_thread_that_never_ends_does_not_keep_the_worker(world):
    run = world.run()
    run.add_task("""
        import threading
        class Work(LocalTask):
            def setup(context):
                threading.Thread(target=wait_for, args=["never"]).start()
            def run(context, input_file, output_file): pass
            def teardown(context): note("teardown")
    """)
    assert run.process("a") == (0, "")
    assert run.stop() == ""
    assert run.noted() == ["teardown"]


def test_worker_is_started_once_there_are_descriptors_again(world):
    run = world.run()
    run.add_task(COPY)
    run.add_task(COPY, "other")
    assert run.process("a") == (0, "")
    (host,) = world.processes("dispatch.host")
    limit = resource.prlimit(host, resource.RLIMIT_NOFILE)
    taken = max(int(each.name) for each in Path(f"/proc/{host}/fd").iterdir())
    # For the client's connection and one file.
    resource.prlimit(host, resource.RLIMIT_NOFILE, (taken + 3, limit[1]))
    client = run.start("b", "other")
    log = run.path / ".tigerflow" / "logs" / "host.log"
    short = "[other] cannot start a worker now"
    wait_until(lambda: short in log.read_text(), "it is short of descriptors")
    resource.prlimit(host, resource.RLIMIT_NOFILE, limit)

    assert finish(client) == (0, "")
    assert log.read_text().count(short) == 1


THREADS = """
    class Work(LocalTask):
        def run(context, input_file, output_file):
            names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT"]
            output_file.write_text(
                " ".join(os.environ.get(name, "unset") for name in names)
            )
"""


@pytest.mark.parametrize(
    ("threads", "own", "expected"),
    [
        (3, {}, "3 3 3"),
        (0, {}, "unset unset unset"),
        (3, {"OMP_NUM_THREADS": "7"}, "7 unset unset"),
        (0, {"OMP_NUM_THREADS": "7"}, "7 unset unset"),
        (3, {"MKL_NUM_THREADS": "7"}, "3 7 unset"),
        (3, {"OMP_THREAD_LIMIT": "7"}, "3 3 7"),
    ],
)
@pytest.mark.parametrize("by", ["environment", "setup command"])
def test_libraries_get_the_workers_threads_unless_the_user_has_set_them(
    world, by, threads, own, expected
):
    run = world.run(**own if by == "environment" else {})
    commands = [f"export {name}={value}" for name, value in own.items()]
    told = {"setup_commands": commands} if by == "setup command" else {}
    run.add_task(THREADS, threads=threads, **told)

    assert run.process("a") == (0, "")
    assert run.output("a").read_text() == expected


def test_context_is_frozen_in_run(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context): context.count = 0
            def run(context, input_file, output_file): context.count += 1
    """)
    assert run.process("a")[0] == 1
    assert run.record("a")["exception_type"] == "ContextFrozenError"


def test_many_files_at_once_all_get_an_answer(world):
    run = world.run()
    run.add_task(
        """
        class Work(LocalAsyncTask):
            async def run(context, input_file, output_file):
                if input_file.stem.endswith("7"):
                    raise ValueError(input_file.stem)
        """,
        concurrency_limit=50,
    )
    clients = {f"f{number}": run.start(f"f{number}") for number in range(60)}
    codes = {stem: finish(client)[0] for stem, client in clients.items()}
    assert codes == {stem: int(stem.endswith("7")) for stem in clients}


def test_task_may_change_the_current_directory(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def setup(context): os.chdir("/")
            def run(context, input_file, output_file):
                output_file.write_text(input_file.read_text())
                os.chdir("/tmp")
    """)

    assert run.process("a") == (0, "")
    assert run.process("b") == (0, "")
    assert run.output("b").read_text() == "content of 'b'"
