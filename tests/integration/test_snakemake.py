"""Compiled pipelines, run by a real Snakemake on this machine."""

import json
import os
import signal
import time

import duckdb
import pytest
from flows import HEAD, LEFT, RIGHT, Flow
from runs import finish, wait_until
from services import HEAD_CLASS, NOTHING_TO_DO

pytestmark = pytest.mark.snakemake

#: How soon after Snakemake's end the workers are gone: 2 s are promised; a machine
#: that does much else gets more. They would stay for minutes.
TEARDOWN_S = 2 + 28

TREE = (
    HEAD_CLASS
    + """


class Left(LocalTask):
    class Params:
        first: str = "1"
        second: str = "2"
    def setup(context): note("setup left")
    def run(context, input_file, output_file):
        note(f"left {input_file.stem}")
        text = input_file.read_text()
        output_file.write_text(f"{text} {context.first}{context.second}")
    def teardown(context): note("teardown left")


class Right(LocalAsyncTask):
    async def setup(context): note("setup right")
    async def run(context, input_file, output_file):
        note(f"right {input_file.stem}")
        output_file.write_text(input_file.read_text() + "!")
    async def teardown(context): note("teardown right")
"""
)
SLURM = {
    "kind": "slurm",
    "max_workers": 3,
    "worker_resources": {"cpus": 1, "memory": "1G", "time": "10"},
}
WAITING = """
class Work(LocalTask):
    def setup(context): note("setup")
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        output_file.write_text("half")
        if input_file.stem == "b":
            wait_for("go")
        output_file.write_text("whole")
    def teardown(context): note("teardown")
"""


@pytest.fixture(params=["local", "tigerflow"])
def either(request, flow):
    """The same whether each file has a process of its own, or none."""
    flow.options = ["--executor", request.param]
    return flow


def _workers_are_gone(world):
    return not world.processes("tigerflow.workers")


def test_tree_with_a_failing_file_is_done_but_for_it_and_repeats_only_that(
    world,
    either,
):
    either.add_module(TREE)
    either.add_inputs("a", "b", "bad")
    either.compile(HEAD, LEFT, RIGHT)
    code, said = either.snakemake()
    assert code == 1
    assert "tigerflow: bad.txt failed: ValueError: this one is bad" in said
    assert _workers_are_gone(world)
    assert either.names("head") == ["a.out", "b.out", "bad.err"]
    assert either.names("left") == ["a.md", "b.md"]
    assert either.names("right") == ["a.out", "b.out"]
    assert (either.out / "left" / "a.md").read_text() == "A 12"
    record = json.loads((either.out / "head" / "bad.err").read_text())
    assert (record["file"], record["task"]) == ("bad.txt", "head")
    steps = [f"{task} {stem}" for task in ("left", "right") for stem in "ab"]
    for task in ("head", "left", "right"):
        assert either.noted(f"setup {task}") == [f"setup {task}"]
        assert either.noted(f"teardown {task}") == [f"teardown {task}"]
    assert set(steps) < set(either.noted())

    either.forget()
    assert either.snakemake()[0] == 1
    assert either.noted() == ["head bad", "setup head", "teardown head"]

    either.forget()
    (either.inputs / "bad.txt").write_text("good")
    assert either.snakemake()[0] == 0
    assert either.noted("head") == ["head bad"]
    assert either.noted("left") == ["left bad"]
    assert either.names("head") == ["a.out", "b.out", "bad.out"]

    either.forget()
    code, said = either.snakemake()
    assert (code, NOTHING_TO_DO in said) == (0, True)
    assert either.noted() == []


def test_change_repeats_what_depends_on_it_and_nothing_else(flow):
    flow.add_module(TREE)
    flow.add_inputs("a", "b")
    flow.compile(HEAD, LEFT, RIGHT)
    assert flow.snakemake()[0] == 0

    flow.forget()
    (flow.inputs / "b.txt").write_text("changed")
    assert flow.snakemake()[0] == 0
    for task in ("head", "left", "right"):
        assert flow.noted(f"{task} ") == [f"{task} b"]
    assert (flow.out / "right" / "b.out").read_text() == "CHANGED!"

    flow.forget()
    flow.compile(HEAD, LEFT | {"params": {"first": "x", "second": "y"}}, RIGHT)
    assert flow.snakemake()[0] == 0
    assert flow.noted() == ["left a", "left b", "setup left", "teardown left"]
    assert (flow.out / "left" / "a.md").read_text() == "A xy"

    flow.forget()
    flow.compile(HEAD, LEFT | {"params": {"first": "y", "second": "x"}}, RIGHT)
    assert flow.snakemake()[0] == 0
    assert flow.noted("left") == ["left a", "left b"]
    assert (flow.out / "left" / "a.md").read_text() == "A yx"

    flow.forget()
    flow.add_inputs("c")
    assert flow.snakemake()[0] == 0
    assert flow.noted("head") == ["head c"]


def test_output_that_is_not_kept_goes_and_stays_away(either):
    either.add_module(TREE)
    either.add_inputs("a", "bad")
    either.compile(
        HEAD | {"keep_output": False},
        LEFT,
        RIGHT | {"keep_output": False},
    )
    assert either.snakemake()[0] == 1
    state = either.out / ".tigerflow" / "tasks"
    assert not (state / "head").exists() or not [*(state / "head").iterdir()]
    assert either.names("head") == ["bad.err"]
    assert either.names("left") == ["a.md"]
    # The mark that the file is done.
    assert [path.name for path in (state / "right").iterdir()] == ["a.out"]

    (either.inputs / "bad.txt").unlink()
    either.forget()
    code, said = either.snakemake()
    assert (code, NOTHING_TO_DO in said) == (0, True)
    assert either.noted() == []


def test_dry_run_starts_nothing(flow):
    flow.add_module(TREE)
    flow.add_inputs("a")
    flow.compile(HEAD)
    code, said = flow.snakemake("--dry-run")
    assert code == 0
    assert "head" in said
    assert flow.noted() == []
    assert [*(flow.out / ".tigerflow" / "logs").iterdir()] == []


def test_database_is_free_when_snakemake_returns(either):
    either.add_module("""
        class Work(LocalTask):
            class Params:
                database: pathlib.Path
            def setup(context):
                import duckdb
                context.connection = duckdb.connect(str(context.database))
                context.connection.execute("CREATE TABLE t (name VARCHAR)")
            def run(context, input_file, output_file):
                row = [input_file.stem]
                context.connection.execute("INSERT INTO t VALUES (?)", row)
            def teardown(context):
                context.connection.close()
    """)
    either.add_inputs("a", "b", "c")
    database = either.root / "results.duckdb"
    either.compile({"name": "work", "params": {"database": str(database)}})
    assert either.snakemake(cores=2)[0] == 0
    with duckdb.connect(str(database)) as connection:
        rows = connection.execute("SELECT name FROM t ORDER BY name").fetchall()
    assert rows == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_ended_run_tears_down_at_once_and_can_be_continued(world, either, number):
    either.add_module(WAITING)
    either.add_inputs("a", "b", "c")
    either.compile({"name": "work"})
    process = either.start()
    wait_until(lambda: either.noted("run b"))
    if number == signal.SIGINT:
        # Ctrl-C in a terminal reaches the clients too.
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    if number == signal.SIGTERM:
        # That one lets Snakemake finish the jobs that run.
        (either.root / "go").touch()
    _, said = finish(process)
    ended = time.monotonic()
    wait_until(lambda: _workers_are_gone(world))
    assert time.monotonic() - ended < TEARDOWN_S
    assert "Traceback" not in said
    assert either.noted("teardown") == ["teardown"]
    assert "b.err" not in either.names("work")

    (either.root / "go").touch()
    if number == signal.SIGKILL:
        assert either.snakemake("--unlock")[0] == 0
    assert either.snakemake()[0] == 0
    assert either.names("work") == ["a.out", "b.out", "c.out"]
    assert (either.out / "work" / "b.out").read_text() == "whole"


@pytest.mark.parametrize("profile", ["local", None])
def test_async_task_has_its_limit_in_flight_on_one_core(flow, profile):
    flow.add_module("""
        import asyncio
        in_flight = 0
        class Work(LocalAsyncTask):
            async def run(context, input_file, output_file):
                global in_flight
                in_flight += 1
                note(f"in flight {in_flight:02}")
                while not os.path.exists("go"):
                    await asyncio.sleep(0.01)
                in_flight -= 1
    """)
    flow.add_inputs(*(f"f{number}" for number in range(30)))
    flow.compile({"name": "work", "kind": "local_async", "concurrency_limit": 20})
    process = flow.start(cores=1, profile=profile)
    wait_until(lambda: "in flight 20" in flow.noted())
    (flow.root / "go").touch()
    assert finish(process)[0] == 0
    assert flow.noted()[-1] == "in flight 20"
    assert len(flow.names("work")) == 30


@pytest.mark.parametrize("profile", ["local", None])
def test_local_task_runs_one_file_at_a_time_and_lets_others_run(flow, profile):
    flow.add_module("""
        class Slow(LocalTask):
            def run(context, input_file, output_file):
                busy = pathlib.Path("busy")
                busy.touch(exist_ok=False)
                # Holds its core until another task has done all its files.
                wait_for("quick.done")
                busy.unlink()

        class Quick(LocalTask):
            def run(context, input_file, output_file):
                note(f"quick {input_file.stem}")
    """)
    stems = [f"f{number}" for number in range(8)]
    flow.add_inputs(*stems)
    flow.compile(
        {"name": "slow", "module": "tasks.py:Slow"},
        {"name": "quick", "module": "tasks.py:Quick"},
    )
    process = flow.start(cores=4, profile=profile)
    wait_until(lambda: len(flow.noted("quick")) == 8)
    (flow.root / "quick.done").touch()
    code, said = finish(process)
    assert code == 0, said


def test_two_output_directories_run_at_the_same_time(world, flow):
    other = Flow(world, "other")
    flow.add_module("""
        class Work(LocalTask):
            class Params:
                out: pathlib.Path = pathlib.Path("{output_dir}")
            def setup(context): note(f"setup {context.out.name}")
            def run(context, input_file, output_file):
                note(f"run {context.out.name}")
                wait_for("go")
    """)
    flow.add_inputs("a", "b")
    flow.compile({"name": "work"})
    other.compile({"name": "work"})
    processes = [flow.start(), other.start()]
    wait_until(lambda: flow.noted("run") == ["run other", "run out"])
    (flow.root / "go").touch()
    assert [finish(process)[0] for process in processes] == [0, 0]
    assert flow.noted("setup") == ["setup other", "setup out"]
    assert other.names("work") == ["a.out", "b.out"]


AWKWARD = [
    "two words",
    'it\'s "quoted" `id` $(id) $HOME',
    "{",
    "}{",
    "*?[a]!",
    "%s % \\ \\n",
    "-rf",
    "--help",
    ".hidden",
    "..",
    "",
    " ",
    "~",
    "#&;|<>()",
    "ünïcödé 文件",
    "a.b.tar",
    "tab\tbell\a",
    "".join(f"{number:03}" for number in range(83)) + "ab",
    "a:b=c,d",
    "key=value",
]
REFUSED = [
    "new\nline",
    "{wildcard}",
    "<path>",
    "ab" * 25,
    os.fsdecode(b"not-utf8-\xff"),
]


def test_awkward_names_are_done_or_named_and_skipped(either):
    either.add_module(TREE)
    either.add_inputs(*AWKWARD, *REFUSED)
    either.compile(HEAD, LEFT)
    code, said = either.snakemake()
    assert code == 0, said
    assert either.names("head") == sorted(f"{stem}.out" for stem in AWKWARD)
    assert either.names("left") == sorted(f"{stem}.md" for stem in AWKWARD)
    reasons = {
        r"'new\nline.txt'": "its name has a line break in it",
        "{wildcard}.txt": "Snakemake reads the {...} in its name as a wildcard",
        "<path>.txt": "Snakemake reads the <...> in its name as a path variable",
        f"{'ab' * 25}.txt": (
            "Snakemake refuses names that end in 20 or more repetitions"
        ),
        r"'not-utf8-\udcff.txt'": "its name is not valid UTF-8",
    }
    for name, reason in reasons.items():
        assert f"tigerflow: skipping {name}: {reason}; rename it\n" in said
    code, said = either.snakemake()
    assert (code, NOTHING_TO_DO in said) == (0, True)


def test_links_that_lead_to_no_file_are_named_and_skipped(either):
    either.add_module(TREE)
    either.add_inputs("a")
    links = {
        "loop.txt": ("loop.txt", "it is a link that leads back to itself"),
        "through.txt": ("a.txt/b.txt", "it is a link through a file that is no direct"),
        "long.txt": ("x" * 300, "it is a link to a name that is too long"),
        "gone.txt": ("nowhere.txt", None),
    }
    for name, (target, _) in links.items():
        (either.inputs / name).symlink_to(target)
    either.compile(HEAD)
    code, said = either.snakemake()
    assert code == 0, said
    assert either.names("head") == ["a.out"]
    for name, (_, reason) in links.items():
        assert said.count(f"tigerflow: skipping {name}: {reason}") == bool(reason)


def test_retries_of_snakemake_process_the_file_again(either):
    either.add_module("""
        class Work(LocalTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file):
                first = pathlib.Path(f"{input_file.stem}.tried")
                note(f"run {input_file.stem}")
                if not first.exists():
                    first.touch()
                    raise ConnectionError
    """)
    either.add_inputs("a", "b")
    either.compile({"name": "work"})
    code, _ = either.snakemake("--retries", "1")
    assert code == 0
    assert either.noted() == ["run a"] * 2 + ["run b"] * 2 + ["setup"]
    assert either.names("work") == ["a.out", "b.out"]


def test_slurm_task_on_one_machine_uses_its_workers(flow):
    flow.add_module("""
        class Work(SlurmTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file):
                note(f"run {os.getpid()}")
                wait_for("go")
            def teardown(context): note("teardown")
    """)
    flow.add_inputs(*"abcdefg")
    flow.compile({"name": "work"} | SLURM)
    process = flow.start(cores=4)
    wait_until(lambda: len(set(flow.noted("run"))) == 3)
    (flow.root / "go").touch()
    assert finish(process)[0] == 0
    assert flow.noted("setup") == ["setup"] * 3
    assert flow.noted("teardown") == ["teardown"] * 3
    assert len(set(flow.noted("run"))) == 3


@pytest.mark.parametrize("own", [None, "7"])
def test_threads_are_what_the_user_has_set_not_those_of_a_job(either, own):
    either.add_module("""
        class Work(LocalTask):
            def run(context, input_file, output_file):
                output_file.write_text(os.environ.get("OMP_NUM_THREADS", "unset"))
    """)
    either.environment.pop("OMP_NUM_THREADS", None)
    either.environment |= {"OMP_NUM_THREADS": own} if own else {}
    either.compile({"name": "work"})
    either.add_inputs("a")

    code, said = either.snakemake()

    assert code == 0, said
    assert (either.out / "work" / "a.out").read_text() == (own or "unset")


def test_setup_that_fails_stops_its_task_alone(either):
    either.add_module("""
        class Broken(LocalTask):
            def setup(context):
                note("setup broken")
                raise OSError("no licence")
            def run(context, input_file, output_file): pass

        class Fine(LocalTask):
            def run(context, input_file, output_file): pass
    """)
    either.add_inputs("a", "b", "c")
    either.compile(
        {"name": "broken", "module": "tasks.py:Broken"},
        {"name": "fine", "module": "tasks.py:Fine"},
    )
    code, said = either.snakemake()
    assert code == 1
    assert "task 'broken' cannot run: its setup failed: OSError: no licence" in said
    assert either.noted() == ["setup broken"]
    assert either.names("broken") == []
    assert either.names("fine") == ["a.out", "b.out", "c.out"]


def test_worker_killed_while_it_runs_a_file_fails_that_file_alone(world, either):
    either.add_module(WAITING)
    either.add_inputs("a", "b", "c")
    either.compile({"name": "work"})
    process = either.start()
    wait_until(lambda: either.noted("run b"))
    (worker,) = world.processes("process.worker")
    os.kill(worker, signal.SIGKILL)
    code, _ = finish(process)
    assert code == 1
    assert either.names("work") == ["a.out", "b.err", "c.out"]


def test_input_directory_that_is_gone_is_named(flow):
    flow.add_module(TREE)
    flow.add_inputs("a")
    flow.compile(HEAD)
    (flow.inputs / "a.txt").unlink()
    flow.inputs.rmdir()
    code, said = flow.snakemake()
    assert code != 0
    reason = "No such file or directory"
    assert (
        f"tigerflow: cannot read the input directory '{flow.inputs}': {reason}" in said
    )
    assert "Traceback" not in said
