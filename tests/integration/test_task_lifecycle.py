"""How the command line of a single task starts and stops."""

import signal
import subprocess
import sys

import pytest
from runs import wait_until
from single_task import ASYNC, SYNC, task

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
LIMIT = "--concurrency-limit=2"


def options(template):
    return [LIMIT] if template is ASYNC else []


def blocking(template):
    """A task whose files take until the file `go` is there."""
    wait = "await wait_for('go')" if template is ASYNC else "wait_for('go')"
    run = f"(here / (input_file.stem + '.begun')).touch(); {wait}"
    return task(template, setup="print('set up')", run=run)


# Stopping


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_an_idle_service_stops_with_128_and_the_signal(bench, template, number):
    service = bench.start(blocking(template), *options(template))
    service.wait_for("Task setup complete")

    code = service.stop(number)

    assert code == 128 + number
    assert service.messages()[2:] == [
        f"WARNING Received signal {int(number)}, initiating shutdown",
        "INFO Shutting down task",
        "INFO Task shutdown complete",
    ]
    assert service.out == "set up\ntorn down\n"


@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_files_in_progress_are_finished_and_no_others_started(bench, template):
    bench.give(a="", b="", c="")
    in_hand = ["a", "b"] if template is ASYNC else ["a"]
    service = bench.start(blocking(template), *options(template))
    for stem in in_hand:
        wait_until((bench.path / f"{stem}.begun").exists)

    service.process.send_signal(signal.SIGTERM)
    service.wait_for("Received signal 15, initiating shutdown")
    (bench.path / "go").touch()

    assert service.end() == 143
    assert bench.results() == [f"{stem}.out" for stem in in_hand]
    assert service.out.endswith("torn down\n")


def test_coroutines_in_flight_get_a_grace_time_and_no_longer(bench):
    bench.environment["TIGERFLOW_WORKER_GRACE"] = "1"
    bench.give(a="")
    service = bench.start(blocking(ASYNC), LIMIT)
    wait_until((bench.path / "a.begun").exists)

    code = service.stop()

    assert code == 143
    assert bench.results() == []
    assert service.out == "set up\ntorn down\n"
    assert service.messages()[-1] == "INFO Task shutdown complete"


@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_a_second_signal_stops_at_once_and_leaves_no_temporary(bench, template):
    bench.give(a="")
    service = bench.start(blocking(template), *options(template))
    wait_until((bench.path / "a.begun").exists)
    service.process.send_signal(signal.SIGINT)
    service.wait_for("Received signal 2, initiating shutdown")

    code = service.stop(signal.SIGTERM)

    assert code == 143
    assert service.messages()[-1] == (
        "WARNING Received signal 15 again, stopping at once"
    )
    assert bench.results() == []


def test_a_second_signal_stops_at_once_also_without_an_output_directory(bench):
    bench.give(a="")
    service = bench.start(blocking(SYNC))
    wait_until((bench.path / "a.begun").exists)
    service.process.send_signal(signal.SIGINT)
    service.wait_for("Received signal 2")
    bench.outputs.rename(bench.path / "elsewhere")

    assert service.stop(signal.SIGINT) == 130


def test_a_signal_is_noticed_while_a_library_holds_the_main_thread(bench):
    bench.give(a="")
    # Locking a mutex twice, in C: signals do not end that wait.
    service = bench.start(
        task(
            run="""
            import ctypes
            libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            (here / 'begun').touch()
            libc.pthread_mutex_lock(mutex)
            libc.pthread_mutex_lock(mutex)
            """
        )
    )
    wait_until((bench.path / "begun").exists)

    service.process.send_signal(signal.SIGTERM)
    service.wait_for("Received signal 15")

    assert service.stop(signal.SIGTERM) == 143


@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_a_signal_during_setup_ends_it_without_a_teardown(bench, template):
    wait = "await wait_for('go')" if template is ASYNC else "wait_for('go')"
    service = bench.start(
        task(template, setup=f"(here / 'begun').touch(); {wait}"), *options(template)
    )
    wait_until((bench.path / "begun").exists)

    code = service.stop()

    assert code == 143
    assert service.out == ""
    assert "Traceback" not in service.log
    assert "WARNING Received signal 15, initiating shutdown" in service.messages()


def test_a_signal_during_teardown_lets_it_finish(bench):
    service = bench.start(
        task(teardown="(here / 'begun').touch(); wait_for('go'); print('torn down')"),
        "--once",
    )
    wait_until((bench.path / "begun").exists)

    service.process.send_signal(signal.SIGTERM)
    service.wait_for("Received signal 15")
    (bench.path / "go").touch()

    assert service.end() == 143
    assert service.out == "torn down\n"


def test_a_temporary_of_a_killed_service_goes_at_the_next_start(bench):
    bench.give(a="text")
    service = bench.start(
        task(run="output_file.touch(); (here / 'begun').touch(); wait_for('go')")
    )
    wait_until((bench.path / "begun").exists)
    service.stop(signal.SIGKILL)
    left = bench.results()

    bench.once(task(run="assert len(list(output_file.parent.glob('*.out'))) == 1"))

    assert [name[:5] for name in left] == [".~tf_"]
    assert bench.results() == ["a.out"]


# Once


def test_once_ends_with_0_when_all_files_succeeded(bench):
    bench.give(a="", b="")

    service = bench.once(task())

    assert service.end() == 0
    assert bench.results() == ["a.out", "b.out"]
    assert service.out == "torn down\n"


def test_once_ends_with_1_as_long_as_a_failed_file_stands_and_names_its_kind(bench):
    bench.give(a="1", b="x")
    code = task(run="int(input_file.read_text())")

    first = bench.once(code)
    second = bench.once(code)

    assert (first.end(), second.end()) == (1, 1)
    assert bench.results() == ["a.out", "b.err"]
    assert "Starting processing" not in second.log
    assert "Already processed: 1 file\n" in second.log
    warning = "Failed earlier: 1 file; to retry one, delete its '.err'\n"
    assert warning in second.log


def test_once_exits_with_0_after_a_failed_file_is_fixed(bench):
    bench.give(a="x")
    code = task(run="int(input_file.read_text())")
    bench.once(code)
    (bench.outputs / "a.err").unlink()
    bench.give(a="1")

    assert bench.once(code).end() == 0
    assert bench.results() == ["a.out"]


def test_once_of_files_with_another_extension_names_it(bench):
    (bench.inputs / "a.TXT").touch()

    service = bench.once(task())

    assert service.end() == 0
    assert (
        "is a .txt input: 1 end in .TXT (such as 'a.TXT'); did you mean" in service.log
    )


def test_once_of_an_empty_directory_sets_up_and_tears_down(bench):
    service = bench.once(task())

    assert service.end() == 0
    assert service.out == "torn down\n"


# Concurrency


@pytest.mark.parametrize("limit", [1, 3])
def test_the_concurrency_limit_is_a_bound_that_is_reached(bench, limit):
    bench.give(**{f"f{number:02}": "" for number in range(12)})
    code = task(
        ASYNC,
        setup="context.load = {'now': 0, 'most': 0}",
        run="""
        load = context.load
        load['now'] += 1
        load['most'] = max(load['most'], load['now'])
        await asyncio.sleep(0.05)
        load['now'] -= 1
        """,
        teardown="print(context.load)",
    )

    service = bench.once(code, f"--concurrency-limit={limit}")

    assert service.out == f"{{'now': 0, 'most': {limit}}}\n"
    assert len(bench.results()) == 12


def test_local_task_runs_one_file_at_a_time_with_one_context(bench):
    bench.give(a="", b="", c="")

    service = bench.once(
        task(
            setup="context.seen = []",
            run="context.seen.append(input_file.name)",
            teardown="print(context.seen)",
        )
    )

    assert service.out == "['a.txt', 'b.txt', 'c.txt']\n"


# Children


def test_a_run_may_use_processes_which_do_not_run_the_task_again(bench):
    bench.give(a="text", b="text")
    head = """
        import multiprocessing
        context_of = multiprocessing.get_context(input_file.read_text())
        with context_of.Pool(2) as pool:
            output_file.write_text(str(pool.map(abs, [-1, 2])))
        """
    for method, name in (("spawn", "a"), ("fork", "b"), ("forkserver", "c")):
        (bench.inputs / f"{name}.txt").write_text(method)

    service = bench.once(task(run=head))

    assert service.end() == 0, service.log
    assert [path.read_text() for path in sorted(bench.outputs.glob("*.out"))] == (
        ["[1, 2]"] * 3
    )
    assert service.log.count("Setting up task") == 1
    assert service.out == "torn down\n"


def test_ending_forked_children_does_not_signal_the_service(bench):
    bench.give(a="text", b="text")
    run = """
        import multiprocessing
        fork = multiprocessing.get_context('fork')
        child = fork.Process(target=wait_for, args=['go'])
        child.start()
        child.terminate()
        child.join()
        output_file.write_text(str(child.exitcode))
        """

    service = bench.once(task(run=run))

    assert service.end() == 0, service.log
    assert (bench.outputs / "b.out").read_text() == "-15"


@pytest.mark.parametrize(
    ("leave", "code"), [("pass", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)]
)
@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_a_forked_child_ends_with_its_file_and_takes_no_other(
    bench, template, leave, code
):
    bench.give(a="", b="")
    run = f"""
        import os, sys
        child = os.fork()
        if child == 0:
            {leave}
        else:
            status = os.waitpid(child, 0)[1]
            output_file.write_text(str(os.waitstatus_to_exitcode(status)))
        """

    service = bench.once(task(template, run=run), *options(template))

    assert service.end() == 0, service.log
    assert [path.read_text() for path in bench.outputs.glob("*.out")] == [str(code)] * 2
    assert service.log.count("Successfully processed") == 2
    assert service.out == "torn down\n"


# Mistakes before the first file


@pytest.mark.parametrize(
    ("missing", "option"), [("in", "--input-dir"), ("out", "--output-dir")]
)
def test_a_missing_directory_is_named_and_not_made(bench, missing, option):
    (bench.path / missing).rmdir()

    service = bench.once(task())

    assert service.end() == 1
    assert service.log == f"Error: {option} {missing!r} does not exist\n"
    assert not (bench.path / missing).exists()
    assert service.out == ""


def test_file_given_as_a_directory_is_refused(bench):
    (bench.path / "out").rmdir()
    (bench.path / "out").touch()

    service = bench.once(task())

    assert service.end() == 1
    assert service.log == "Error: --output-dir 'out' is not a directory\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--concurrency-limit=2"], "--concurrency-limit"),
        (["extra"], "extra"),
        (["--task-name"], "--task-name"),
    ],
)
def test_a_wrong_option_is_named_on_stderr(bench, words, text):
    service = bench.once(task(), *words)

    assert service.end() == 2
    assert text in service.log
    assert "Traceback" not in service.log
    assert bench.results() == []


@pytest.mark.parametrize("words", [[], ["--concurrency-limit=0"]], ids=["none", "zero"])
def test_an_async_task_needs_a_positive_limit(bench, words):
    service = bench.once(task(ASYNC), *words)

    assert service.end() == 2
    assert "--concurrency-limit" in service.log


def test_a_missing_option_is_named(bench):
    bench.module.write_text(task())

    done = subprocess.run(
        [sys.executable, bench.module], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "--input-dir" in done.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_ext": "txt"}, "Invalid file extension: 'txt'; write '.txt'"),
        (
            {"output_ext": ".err"},
            "Invalid file extension: '.err'; '.err' is kept for error files",
        ),
        (
            {"output_ext": ".a b"},
            (
                "Invalid file extension: '.a b'; write a dot and letters, digits or "
                "underscores, such as '.txt'"
            ),
        ),
        (
            {"task_name": "2nd task"},
            (
                "Invalid task name: '2nd task'; "
                "start with a letter, then letters, digits, '-' or '_'"
            ),
        ),
        (
            {"output_dir": "in", "output_ext": ".txt"},
            (
                "Input and output directory are the same, and outputs (.txt) would be "
                "taken for inputs (.txt); choose another --output-dir or --output-ext"
            ),
        ),
        (
            {"output_dir": "./out/../in", "output_ext": ".up.txt"},
            (
                "Input and output directory are the same, and outputs (.up.txt) "
                "would be taken for inputs (.txt); "
                "choose another --output-dir or --output-ext"
            ),
        ),
    ],
)
def test_names_that_cannot_work_are_refused_in_a_sentence(bench, changed, message):
    bench.give(a="text")

    service = bench.once(task(), **changed)

    assert service.end() == 2
    assert service.log == f"Error: {message}\n"
    assert [path.name for path in bench.inputs.iterdir()] == ["a.txt"]


def test_input_and_output_directory_may_be_the_same(bench):
    bench.give(a="text")

    service = bench.once(task(), output_dir="in")

    assert service.end() == 0
    assert sorted(path.name for path in bench.inputs.glob("a.*")) == ["a.out", "a.txt"]


def test_a_bad_setting_is_one_sentence(bench):
    bench.environment["TIGERFLOW_TASK_POLL_INTERVAL"] = "soon"

    service = bench.once(task())

    assert service.end() == 2
    assert service.log == (
        "Error: TIGERFLOW_TASK_POLL_INTERVAL='soon' is not a whole number "
        "greater than 0\n"
    )


HEAD = "from tigerflow.tasks import LocalTask, LocalAsyncTask\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "class Job(LocalTask):\n    pass\n",
            (
                "Task Job has no run; "
                "write @staticmethod def run(context, input_file, output_file)"
            ),
        ),
        (
            "class Job(LocalTask):\n    async def run(context, i, o): ...\n",
            (
                "Job.run is 'async def'; write @staticmethod def run(context, "
                "input_file, output_file), or derive from LocalAsyncTask"
            ),
        ),
        (
            "class Job(LocalTask):\n    def run(self, context, i): ...\n",
            (
                "Job.run does not take (context, input_file, output_file); "
                "write @staticmethod def run(context, input_file, output_file)"
            ),
        ),
    ],
)
def test_a_class_that_cannot_run_shows_its_help_and_says_what_to_write(
    bench,
    code,
    message,
):
    service = bench.once(HEAD + code + "Job.cli()\n")
    shown = bench.start(HEAD + code + "Job.cli()\n", "--help")

    assert shown.end() == 0
    assert service.end() == 1
    assert service.log == f"Error: {message}\n"


def test_a_reserved_parameter_is_refused_whatever_is_asked(bench):
    code = task().replace(
        "class Job(LocalTask):",
        "class Job(LocalTask):\n    class Params:\n        once: int\n",
    )

    service = bench.start(code, "--help")

    assert service.end() == 2
    assert service.log == (
        "Error: Parameter name collision in Job.Params: {'once'} is reserved; "
        "rename it\n"
    )


# Setup and teardown that fail


@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_a_setup_that_raises_ends_with_its_traceback_and_blames_no_file(
    bench, template
):
    bench.give(a="text")

    service = bench.once(task(template, setup="1 / 0"), *options(template))

    assert service.end() == 1
    assert service.log.endswith("ZeroDivisionError: division by zero\n")
    assert "Traceback (most recent call last):" in service.log
    assert bench.results() == []
    assert service.out == ""


@pytest.mark.parametrize("template", [SYNC, ASYNC], ids=["local", "async"])
def test_a_teardown_that_raises_ends_with_its_traceback(bench, template):
    bench.give(a="text")

    service = bench.once(task(template, teardown="1 / 0"), *options(template))

    assert service.end() == 1
    assert service.log.endswith("ZeroDivisionError: division by zero\n")
    assert "Task shutdown complete" not in service.log
    assert bench.results() == ["a.out"]


def test_changing_the_context_in_teardown_shows_the_line(bench):
    service = bench.once(task(teardown="context.x = 1"))

    assert service.end() == 1
    assert "context.x = 1" in service.log
    assert "Cannot modify frozen SetupContext: tried to set 'x'" in service.log


def test_changing_the_context_in_run_is_the_failure_of_that_file(bench):
    bench.give(a="text")

    service = bench.once(task(run="context.x = 1"))

    assert service.end() == 1
    assert bench.error("a")["message"] == (
        "Cannot modify frozen SetupContext: tried to set 'x'"
    )
