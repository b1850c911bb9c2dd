"""`tigerflow watch`, run for real."""

import json
import os
import signal

import pytest
from flows import HEAD, LEFT, RIGHT
from runs import DEADLINE_S, finish, wait_until
from services import NOTHING_TO_DO, TREE, Watched, kill

from tigerflow.rundir.requests import Request, ask

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}
COPY = """
class Work(LocalTask):
    class Params:
        word: str = ""
    def setup(context): note("setup")
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        text = input_file.read_text()
        if text == "bad":
            raise ValueError("bad")
        output_file.write_text(text + context.word)
    def teardown(context):
        note("teardown")
"""
WAITING = """
class Work(LocalTask):
    def setup(context): note("setup")
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        wait_for("go")
        output_file.write_text(input_file.read_text())
    def teardown(context): note("teardown")
"""


def test_tree_processes_existing_and_arriving_files(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("a", "bad", "left")
    process = flow.watch()
    flow.until("left/a.md", "right/a.out", "head/bad.err", "left/left.err")
    flow.add_inputs("b")
    flow.replace("c.txt", "c", age_s=3600)
    flow.until("left/b.md", "right/b.out", "left/c.md", "right/c.out")
    assert flow.stop(process) == 128 + signal.SIGINT
    flow.until_nothing_is_left()
    assert flow.texts("left").keys() == {"a.md", "b.md", "c.md", "left.err"}
    assert flow.texts("right") == {
        f"{stem}.out": f"{stem.upper()}>" for stem in ["a", "b", "c", "left"]
    }
    assert flow.noted("setup") == ["setup head"]
    assert flow.noted("teardown") == ["teardown head"]
    assert "bad.txt failed: ValueError: this one is bad" in flow.said
    assert "Traceback" not in flow.said


def test_slow_branch_does_not_keep_new_files_from_the_others(flow):
    flow.add_module("""
        class Head(LocalTask):
            def run(context, input_file, output_file):
                note(f"head {input_file.stem}")
        class Left(LocalTask):
            def run(context, input_file, output_file):
                note(f"left {input_file.stem}")
                wait_for("go")
        class Right(LocalAsyncTask):
            async def run(context, input_file, output_file): pass
    """)
    flow.write(HEAD | {"keep_output": False}, LEFT, RIGHT)
    process = flow.watch()
    stems = [f"f{number:02}" for number in range(30)]
    for stem in stems:
        flow.add_inputs(stem)
        flow.until(f"right/{stem}.out")
    assert flow.noted("left") == ["left f00"]
    (flow.root / "go").touch()
    flow.until(*(f"left/{stem}.md" for stem in stems))
    assert flow.stop(process) == 130
    # What was made for one branch is there for the other, and goes after both.
    assert flow.noted("head") == [f"head {stem}" for stem in stems]
    assert not [*(flow.out / ".tigerflow" / "tasks").glob("head/*")]
    assert NOTHING_TO_DO in flow.dry_run()


def test_after_it_snakemake_has_nothing_to_do(flow):
    flow.add_module(TREE)
    flow.write(HEAD | {"keep_output": False}, LEFT, RIGHT)
    flow.add_inputs("a", "b")
    assert flow.once() == 0, flow.said
    assert NOTHING_TO_DO in flow.dry_run()
    assert flow.names("head") == []
    # The directory stays: another window might be about to write there.
    assert [*(flow.out / ".tigerflow" / "tasks" / "head").iterdir()] == []


def test_what_snakemake_left_half_done_is_finished_and_the_other_way_round(flow):
    flow.add_module(TREE)
    flow.add_inputs("a", "b", "c")
    flow.compile(HEAD, LEFT, RIGHT)
    assert flow.snakemake("left/a.md", "head/b.out")[0] == 0
    flow.forget()
    assert flow.once() == 0, flow.said
    assert flow.noted("head ") == ["head c"]
    assert flow.noted("left ") == ["left b", "left c"]
    assert flow.noted("right ") == ["right a", "right b", "right c"]

    (flow.out / "left" / "a.md").unlink()
    flow.add_inputs("d")
    flow.forget()
    assert NOTHING_TO_DO not in flow.dry_run()
    assert flow.snakemake()[0] == 0
    assert flow.noted("left ") == ["left a", "left d"]
    assert flow.noted("head ") == ["head d"]
    flow.forget()
    assert flow.once() == 0
    assert flow.noted() == []


def test_failed_files_stay_failed_until_asked_or_changed(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    (flow.inputs / "a.txt").write_text("bad")
    flow.add_inputs("b")
    assert flow.once() == 1
    assert flow.names("work") == ["a.err", "b.out"]
    flow.forget()
    assert flow.once() == 1
    assert flow.noted() == []
    assert flow.names("work") == ["a.err", "b.out"]
    assert flow.once("--retry-failed") == 1
    assert flow.noted("run") == ["run a"]
    flow.forget()
    (flow.inputs / "a.txt").write_text("good")
    assert flow.once() == 0
    assert flow.noted("run") == ["run a"]
    assert flow.names("work") == ["a.out", "b.out"]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("age_s", [0, 3600])
def test_replaced_input_is_processed_again(flow, age_s, restarted):
    flow.add_module(COPY)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    flow.until("work/a.out")
    if restarted:
        # A service that is stopped before the journal has it would be another test.
        wait_until(lambda: "Completed processing 1 file" in flow.said)
        flow.stop(process)
    else:
        wait_until(lambda: "Completed processing 1 file" in flow.said)
    flow.replace("a.txt", "new", age_s)
    if restarted:
        process = flow.watch()
    wait_until(lambda: flow.texts("work") == {"a.out": "new"}, flow.said)
    flow.stop(process)
    assert flow.noted("run") == ["run a"] * 2


def test_input_replaced_by_an_older_one_after_a_kill_is_processed_again(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    flow.until("work/a.out")
    kill(process.pid)
    process.wait()
    # As if the kill had come before the journal was told.
    journal = flow.out / ".tigerflow" / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if "file_" not in line]
    journal.write_text("".join(f"{line}\n" for line in lines))
    flow.replace("a.txt", "older", age_s=3600)
    assert flow.once() == 0, flow.said
    assert flow.texts("work") == {"a.out": "older"}


def test_delete_input_removes_what_is_done_and_nothing_else(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    (flow.inputs / "c.txt").write_text("bad")
    (flow.inputs / "other.csv").touch()
    assert flow.once("--delete-input") == 1
    assert sorted(p.name for p in flow.inputs.iterdir()) == ["c.txt", "other.csv"]
    assert flow.names("work") == ["a.out", "b.out", "c.err"]

    # The next of that name is another file, although the result of the first is newer.
    flow.replace("a.txt", "second", age_s=3600)
    assert flow.once("--delete-input") == 1
    assert flow.texts("work")["a.out"] == "second"
    assert not (flow.inputs / "a.txt").exists()


def test_input_that_was_done_before_it_could_be_deleted_is_deleted_later(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    flow.add_inputs("a")
    assert flow.once() == 0
    flow.forget()
    assert flow.once("--delete-input") == 0
    assert [*flow.inputs.iterdir()] == []
    assert flow.noted() == []


def test_input_changed_while_it_is_processed_is_not_deleted_but_done_again(flow):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch("--delete-input")
    wait_until(lambda: flow.noted("run"))
    flow.replace("a.txt", "new")
    (flow.root / "go").touch()
    wait_until(lambda: not [*flow.inputs.iterdir()], "the input is removed")
    assert flow.stop(process) == 130
    assert flow.texts("work") == {"a.out": "new"}


def test_extensions_of_several_parts_and_names_that_snakemake_cannot_carry(flow):
    flow.add_module(COPY)
    flow.write(WORK | {"input_ext": ".tar.gz", "output_ext": ".sum.txt"})
    for name in ("a.tar.gz", "b.c.tar.gz", "two words.tar.gz", "x.gz", "{w}.tar.gz"):
        (flow.inputs / name).write_text("t")
    process = flow.watch()
    flow.until("work/a.sum.txt", "work/b.c.sum.txt", "work/two words.sum.txt")
    flow.replace("d.tar.gz", "t")
    flow.until("work/d.sum.txt")
    flow.stop(process)
    assert len(flow.names("work")) == 4
    assert flow.said.count("Skipping {w}.tar.gz: Snakemake reads the {...}") == 1


def test_only_one_service_or_snakemake_works_in_a_directory(flow):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    process = flow.watch()
    wait_until(lambda: flow.noted("run"))
    assert flow.once() == 1
    assert f"Error: Pipeline is already running (pid {process.pid} on " in flow.said
    for options in ((), ("--executor", "tigerflow")):
        code, said = flow.snakemake(*options)
        assert code == 1
        # Not for each of the files.
        assert said.count("a TigerFlow service is running in the output directory") == 1
        assert f"stop it first (pid {process.pid} on " in said
    (flow.root / "go").touch()
    flow.until("work/a.out", "work/b.out")
    assert flow.command("stop", flow.out).wait(DEADLINE_S) == 0
    assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    flow.until_nothing_is_left()
    assert flow.command("stop", flow.out).wait(DEADLINE_S) == 0
    assert "Pipeline is not running" in flow.said
    assert flow.noted("run") == ["run a", "run b"]


def test_service_beside_snakemake_refuses(flow):
    flow.add_module(WAITING)
    flow.add_inputs("a")
    flow.compile(WORK)
    snakemake = flow.start()
    wait_until(lambda: flow.noted("run"))
    assert flow.once() == 1
    assert "Error: Snakemake is running in the output directory" in flow.said
    (flow.root / "go").touch()
    assert finish(snakemake)[0] == 0


def test_pipeline_of_a_refused_service_does_not_replace_that_of_the_other(flow):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    wait_until(lambda: flow.noted("run"))
    snakefile = flow.out / ".tigerflow" / "workflow" / "Snakefile"
    before = snakefile.read_text()
    flow.write(WORK | {"name": "other"})
    assert flow.once() == 1
    assert snakefile.read_text() == before
    (flow.root / "go").touch()
    flow.stop(process)


def test_stop_request_from_another_host_ends_it_as_stop_does(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    flow.until("work/a.out")

    ask(flow.out / ".tigerflow", Request.STOP)

    assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    flow.until_nothing_is_left()


def test_request_to_stop_at_once_from_another_host_is_heard_during_teardown(world):
    flow = Watched(world, TIGERFLOW_WORKER_GRACE="1000")
    flow.add_module(COPY + '        wait_for("never")\n')
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    flow.until("work/a.out")
    process.send_signal(signal.SIGINT)
    wait_until(lambda: flow.noted("teardown"))

    ask(flow.out / ".tigerflow", Request.STOP_AT_ONCE)

    assert process.wait(DEADLINE_S) in {128 + signal.SIGTERM, 128 + signal.SIGINT}
    flow.until_nothing_is_left()


def test_stop_request_of_an_earlier_service_does_not_end_a_later_one(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    flow.add_inputs("a")
    assert flow.once() == 0
    ask(flow.out / ".tigerflow", Request.STOP)
    flow.add_inputs("b")
    process = flow.watch()
    flow.until("work/b.out")
    ask(flow.out / ".tigerflow", Request.RETRY)
    # It has read what was asked, and obeyed that alone.
    wait_until((flow.out / ".tigerflow" / "answers").read_text)
    assert flow.stop(process) == 130


def test_stop_gives_up_a_file_after_the_grace_time(world):
    flow = Watched(world, TIGERFLOW_WORKER_GRACE="1")
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    process = flow.watch()
    wait_until(lambda: flow.noted("run"))
    assert flow.stop(process, signal.SIGTERM) == 128 + signal.SIGTERM
    assert flow.names("work") == []
    assert flow.noted("teardown") == ["teardown"]
    flow.until_nothing_is_left()


STEPS = {
    "min_size": ({"bytes": 3}, ["ccc", "dddd"]),
    "max_size": ({"bytes": 2}, ["a", "bb"]),
    "min_age": ({"seconds": 1000}, ["bb"]),
    "filename_match": ({"pattern": "^[ab]"}, ["a", "bb"]),
    "companion_file": ({"ext": ".done"}, ["ccc"]),
}


@pytest.mark.parametrize("kind", STEPS)
def test_staging_step_lets_some_files_go_and_looks_at_the_others_again(flow, kind):
    keys, chosen = STEPS[kind]
    flow.add_module(COPY)
    flow.write(WORK, steps=[{"kind": kind} | keys])
    flow.add_inputs("a", "bb", "ccc", "dddd")
    os.utime(flow.inputs / "bb.txt", (1, 1))
    (flow.inputs / "ccc.done").touch()
    assert flow.once() == 0, flow.said
    assert flow.names("work") == [f"{stem}.out" for stem in chosen]


def test_companion_that_comes_later_lets_its_file_go(flow):
    flow.add_module(COPY)
    flow.write(WORK, steps=[{"kind": "companion_file", "ext": ".done"}])
    flow.add_inputs("a", "b")
    (flow.inputs / "a.done").touch()
    process = flow.watch()
    flow.until("work/a.out")
    (flow.inputs / "b.done").touch()
    flow.until("work/b.out")
    flow.stop(process)


def test_max_staged_is_exact_and_the_order_is_that_of_sort_by(flow):
    flow.add_module(WAITING)
    steps = [
        {"kind": "sort_by", "key": "name", "reverse": True},
        {"kind": "max_staged", "count": 3},
    ]
    flow.write(WORK, steps=steps)
    flow.add_inputs(*"abcdefgh")
    process = flow.watch()
    flow.until_said("Staged 3 new files")
    wait_until(lambda: flow.noted("run"))
    (flow.root / "go").touch()
    flow.until(*(f"work/{stem}.out" for stem in "abcdefgh"))
    flow.stop(process)
    order = [line for line in flow.notes.read_text().splitlines() if "run" in line]
    assert set(order[:3]) == {"run h", "run g", "run f"}
    assert most_staged(flow) == 3


def most_staged(flow):
    """Return how many files were in flight at most, by the journal."""
    most, staged = 0, set()
    for line in (flow.out / ".tigerflow" / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "staged":
            staged |= set(event["files"])
            most = max(most, len(staged))
        elif event["event"].startswith("file_"):
            staged.discard(event["file"])
    return most


CALLABLES = {
    "raise RuntimeError('oops')": "raised RuntimeError: oops",
    "sys.exit()": "raised SystemExit",
    "return None": "returned None, not a list of paths",
    "return 'a.txt'": "returned 'a.txt', not a list of paths",
    "return [str(p) for p in paths]": "which is not one of its candidates",
    "return [[1]]": "returned [1], which is not one of its candidates",
    "return [pathlib.Path('/etc/passwd')]": "which is not one of its candidates",
    "return paths + paths": "returned a file twice",
}


@pytest.mark.parametrize("body", CALLABLES)
def test_callable_that_misbehaves_is_named_and_harms_nothing(flow, body):
    flow.add_module(COPY)
    (flow.root / "choosing.py").write_text(
        "import os, pathlib, sys\n"
        "def choose(paths, context):\n"
        f"    if os.path.exists({str(flow.root / 'mended')!r}):\n"
        "        return paths[:1]\n"
        f"    {body}\n"
    )
    flow.write(WORK, steps=[{"kind": "callable", "function": "choosing:choose"}])
    flow.add_inputs("a", "b")
    process = flow.watch()
    flow.until_said(CALLABLES[body])
    (flow.root / "mended").touch()
    flow.until("work/a.out", "work/b.out")
    flow.stop(process)
    assert flow.said.count("staging function choosing:choose") == 1
    assert sorted(p.name for p in flow.inputs.iterdir()) == ["a.txt", "b.txt"]


def test_callable_that_is_not_there_is_named_at_the_start(flow):
    flow.add_module(COPY)
    flow.write(WORK, steps=[{"kind": "callable", "function": "nowhere:choose"}])
    assert flow.once() == 2
    assert "staging function nowhere:choose cannot be imported" in flow.said


def test_task_whose_setup_raises_stops_alone(flow):
    flow.add_module("""
        class Broken(LocalTask):
            def setup(context):
                note("setup broken")
                if not os.path.exists("licence"):
                    raise OSError("no licence")
            def run(context, input_file, output_file): pass

        class Fine(LocalTask):
            def run(context, input_file, output_file): pass
    """)
    flow.write(
        {"name": "broken", "module": "tasks.py:Broken"},
        {"name": "fine", "module": "tasks.py:Fine"},
        {
            "name": "after",
            "module": "tasks.py:Fine",
            "depends_on": "broken",
            "input_ext": ".out",
        },
        steps=[{"kind": "max_staged", "count": 2}],
    )
    stems = [f"f{number}" for number in range(6)]
    flow.add_inputs(*stems)
    assert flow.once() == 1
    assert flow.noted() == ["setup broken"]
    assert flow.names("fine") == [f"{stem}.out" for stem in stems]
    assert flow.names("broken") == flow.names("after") == []
    assert flow.said.count("no licence") == 1
    (flow.root / "licence").touch()
    assert flow.once() == 0
    assert len(flow.names("after")) == 6


def test_workers_of_a_local_task_run_side_by_side(flow):
    flow.add_module(WAITING)
    flow.write(WORK | {"workers": 3})
    flow.add_inputs(*"abcd")
    process = flow.watch("--once")
    wait_until(lambda: len(flow.noted("run")) == 3)
    (flow.root / "go").touch()
    assert process.wait(DEADLINE_S) == 0
    assert flow.noted("setup") == ["setup"] * 3


@pytest.mark.parametrize("command", ["watch", "snakemake"])
def test_run_that_hangs_is_ended_and_its_worker_replaced(flow, command):
    flow.add_module("""
        class Work(LocalTask):
            def setup(context): note("setup")
            def run(context, input_file, output_file):
                if not os.path.exists("hung"):
                    open("hung", "x").close()
                    wait_for("never")
            def teardown(context): note("teardown")
    """)
    flow.write(WORK | {"timeout": 1})
    flow.add_inputs("a", "b", "c")
    if command == "watch":
        assert flow.once() == 1
    else:
        flow.compile(WORK | {"timeout": 1})
        assert flow.snakemake()[0] == 1
    (path,) = flow.out.glob("work/*.err")
    assert len(flow.names("work")) == 3
    error = path.read_text()
    assert '"TimeoutError"' in error
    assert "run took longer than the timeout of 1 s" in error
    assert flow.noted() == ["setup"] * 2 + ["teardown"] * 2


def test_hanging_run_of_an_async_task_is_cancelled_alone(flow):
    flow.add_module("""
        import asyncio
        class Work(LocalAsyncTask):
            async def setup(context): note("setup")
            async def run(context, input_file, output_file):
                if input_file.stem == "b":
                    await asyncio.Event().wait()
                elif input_file.stem == "c":
                    raise TimeoutError("of its own")
    """)
    flow.write(
        WORK | {"kind": "local_async", "concurrency_limit": 4, "timeout": 0.5},
    )
    flow.add_inputs(*"abcdef")
    assert flow.once() == 1
    assert flow.names("work") == [
        "a.out",
        "b.err",
        "c.err",
        "d.out",
        "e.out",
        "f.out",
    ]
    assert flow.noted() == ["setup"]
    assert "timeout of 0.5 s" in (flow.out / "work" / "b.err").read_text()
    assert "of its own" in (flow.out / "work" / "c.err").read_text()
