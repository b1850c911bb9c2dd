"""Processes that a task's code starts: none of them goes on as the worker."""

import os
import signal
from contextlib import contextmanager

import pytest
from runs import Run, wait_until

#: A task that forks in `{where}`; the child leaves by `{leave}`, and nothing of it
#: may come after that. The code it ends with is noted by the worker.
LOCAL = """
    def fork():
        child = os.fork()
        if child == 0:
            {leave}
            return True
        note(f"child {{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}}")
        return False

    class Work(LocalTask):
        def setup(context):
            if "{where}" == "setup" and fork(): return
            note("setup")
        def {run}(context, {arguments}):
            if "{where}" == "run" and fork(): return
            note("run")
            {write}
        def teardown(context):
            if "{where}" == "teardown" and fork(): return
            note("teardown")
"""
WRITE = "output_file.write_text('whole')"
TEMPLATES = {
    "run": LOCAL.replace("{run}", "run")
    .replace("{arguments}", "input_file, output_file")
    .replace("{write}", WRITE),
    "run_batch": LOCAL.replace("{run}", "run_batch")
    .replace("{arguments}", "pairs")
    .replace("{write}", f"for _, output_file in pairs: {WRITE}"),
}
TEMPLATES["async"] = (
    TEMPLATES["run"]
    .replace("LocalTask", "LocalAsyncTask")
    .replace("        def ", "        async def ")
)

#: How a child leaves, and the code that it ends with.
WAYS = {
    "pass": 0,
    "sys.exit()": 0,
    "sys.exit(3)": 3,
    "sys.exit('no more')": 1,
    "raise ValueError('of the child')": 1,
    "raise KeyboardInterrupt": 1,
    "os._exit(4)": 4,
}

FORK = """
    import multiprocessing
    fork = multiprocessing.get_context("fork")
"""


def _task(kind: str, where: str, leave: str) -> str:
    return TEMPLATES[kind].format(where=where, leave=leave)


def _process_two(run: Run) -> list[tuple[int, str]]:
    return [run.process(stem) for stem in ("a", "b")]


@pytest.mark.parametrize("leave", WAYS)
def test_forked_child_ends_where_run_does(world, leave):
    run = world.run()
    run.add_task(_task("run", "run", leave))

    assert _process_two(run) == [(0, "")] * 2
    assert run.stop() == ""
    child = f"child {WAYS[leave]}"
    assert run.noted() == ["setup", child, "run", child, "run", "teardown"]
    assert run.names() == ["a.out", "b.out"]
    assert ("ValueError: of the child" in run.log()) == ("ValueError" in leave)
    assert ("no more" in run.log()) == ("no more" in leave)


@pytest.mark.parametrize("leave", ["pass", "sys.exit(1)", "raise ValueError"])
@pytest.mark.parametrize("kind", ["run_batch", "async"])
def test_forked_child_ends_with_its_call_in_every_kind(world, kind, leave):
    run = world.run()
    several = {"batch_size": 4} if kind == "run_batch" else {"concurrency_limit": 2}
    run.add_task(_task(kind, "run", leave), **several)

    assert _process_two(run) == [(0, "")] * 2
    assert run.stop() == ""
    child = f"child {WAYS.get(leave, 1)}"
    assert run.noted() == ["setup", child, "run", child, "run", "teardown"]
    assert run.names() == ["a.out", "b.out"]


@pytest.mark.parametrize("leave", ["pass", "sys.exit(1)", "raise ValueError"])
@pytest.mark.parametrize("kind", ["run", "async"])
@pytest.mark.parametrize("where", ["setup", "teardown"])
def test_child_forked_in_setup_or_teardown_ends_there(world, kind, where, leave):
    run = world.run()
    run.add_task(_task(kind, where, leave))

    assert run.process("a") == (0, "")
    assert run.stop() == ""
    noted = ["setup", "run", "teardown"]
    noted.insert(noted.index(where), f"child {WAYS.get(leave, 1)}")
    assert run.noted() == noted


def test_child_forked_while_the_module_is_imported_ends_there(world):
    run = world.run()
    run.add_task("""
        child = os.fork()
        if child == 0:
            sys.exit(3)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        class Work(LocalTask):
            def run(context, input_file, output_file):
                output_file.write_text(str(code))
    """)

    assert run.process("a") == (0, "")
    assert run.output("a").read_text() == "3"


def test_child_that_a_coroutine_forks_cannot_await(world):
    run = world.run()
    run.add_task(
        """
        import asyncio
        class Work(LocalAsyncTask):
            async def run(context, input_file, output_file):
                child = os.fork()
                if child == 0:
                    await asyncio.sleep(0)
                    note("a second loop")
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                output_file.write_text(str(code))
        """,
        concurrency_limit=2,
    )

    assert run.process("a") == (0, "")
    assert run.output("a").read_text() == "1"
    assert run.noted() == []
    assert "a child process that a coroutine forked cannot await" in run.log()


@pytest.mark.parametrize("where", ["setup", "run"])
def test_children_that_multiprocessing_terminates_end(world, where):
    run = world.run()
    run.add_task(f"""
        import multiprocessing
        fork = multiprocessing.get_context("fork")
        def square(number): return number * number
        def use():
            for _ in range(20):
                with fork.Pool(2) as pool:
                    assert pool.map(square, range(4)) == [0, 1, 4, 9]
            child = fork.Process(target=wait_for, args=["never"])
            child.start()
            child.terminate()
            child.join()
            note(f"child {{child.exitcode}}")
        class Work(LocalTask):
            def setup(context):
                if "{where}" == "setup": use()
            def run(context, input_file, output_file):
                if "{where}" == "run": use()
    """)

    assert run.process("a") == (0, "")
    assert run.noted() == ["child -15"]
    assert "Traceback" not in run.log()


def test_executor_of_processes_serves_many_files(world):
    run = world.run()
    run.add_task("""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        class Work(LocalTask):
            def setup(context):
                fork = multiprocessing.get_context("fork")
                context.pool = ProcessPoolExecutor(2, mp_context=fork)
            def run(context, input_file, output_file):
                output_file.write_text(str([*context.pool.map(abs, [-1, -2])]))
            def teardown(context):
                context.pool.shutdown()
                note("teardown")
    """)

    assert [run.process(f"f{number}") for number in range(5)] == [(0, "")] * 5
    assert run.output("f4").read_text() == "[1, 2]"
    assert run.stop() == ""
    assert run.noted() == ["teardown"]


#: Which signals a program ignores, and which it has blocked.
_STATUS = "grep -E '^Sig(Ign|Blk)' /proc/self/status"


@contextmanager
def disposition(number, handler):
    """Set what a signal does, for what is started meanwhile."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _has(status: str, field: str, number: int) -> bool:
    (line,) = [line for line in status.splitlines() if line.startswith(field)]
    return bool(int(line.split()[1], 16) & 1 << (number - 1))


STATUS_TASK = f"""
    import subprocess
    class Work(LocalTask):
        def run(context, input_file, output_file):
            command = ["sh", "-c", {_STATUS!r}]
            if input_file.stem == "forked":
                child = os.fork()
                if child == 0:
                    os.dup2(os.open(output_file, os.O_WRONLY), 1)
                    os.execvp(command[0], command)
                os.waitpid(child, 0)
            else:
                with output_file.open("w") as file:
                    subprocess.run(command, stdout=file, check=True)
"""


@pytest.mark.parametrize("stem", ["spawned", "forked"])
def test_programs_of_a_task_heed_signals(world, stem):
    run = world.run()
    # As in what a script starts with `&`; and these tests may run under nohup.
    ignored, default = signal.SIG_IGN, signal.SIG_DFL
    with disposition(signal.SIGINT, ignored), disposition(signal.SIGHUP, default):
        run.add_task(STATUS_TASK, setup_commands=[f"{_STATUS} > setup.status"])
        assert run.process(stem) == (0, "")

    for path in (run.output(stem), run.path / "setup.status"):
        status = path.read_text()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            assert not _has(status, "SigIgn", number)
            assert not _has(status, "SigBlk", number)


def test_child_that_outlives_its_worker_blocks_no_one(world):
    run = world.run()
    run.add_task("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                if os.fork() == 0:
                    os.setsid()
                    note(f"child {os.getpid()}")
                    wait_for("go")
    """)
    assert run.process("a") == (0, "")
    wait_until(lambda: run.noted("child"), "the child lives")
    assert run.stop() == ""

    assert run.process("b") == (0, "")
    pid = int(run.noted("child")[0].split()[1])
    os.kill(pid, 0)
    (run.path / "go").touch()
