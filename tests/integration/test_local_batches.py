"""Tasks with `run_batch`, in real workers, however they are started."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from flows import Flow
from runs import DEADLINE_S, finish, wait_until
from services import NOTHING_TO_DO, Watched, kill

from tigerflow.rundir.events import FileDone

#: Notes the files of each call. One named `wait…` waits, one named `bad…` raises, one
#: named `kill…` ends its worker, one named `slow…` takes for ever; `first` waits for
#: `go` so that others gather.
CODE = """
import asyncio

class Work({base}):
    batch_size = 8

    {word}def setup(context): note("setup")

    {word}def run_batch(context, pairs):
        stems = [source.stem for source, _ in pairs]
        note("call " + " ".join(stems))
        for source, output in pairs:
            output.write_text("half")
            if source.stem == "first" or source.stem.startswith("wait"):
                while not pathlib.Path({go}).exists():
                    {pause}
            if source.stem.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            while source.stem.startswith("slow"):
                {pause}
            if source.stem.startswith("bad"):
                raise ValueError(source.stem)
            output.write_text(source.read_text().upper())

    {word}def teardown(context): note("teardown")
"""


def code(go: Path, base: str = "LocalTask") -> str:
    is_async = base == "LocalAsyncTask"
    return CODE.format(
        base=base,
        word="async " if is_async else "",
        go=repr(str(go)),
        pause="await asyncio.sleep(0.01)" if is_async else "time.sleep(0.01)",
    )


BASES = ["LocalTask", "LocalAsyncTask"]


@pytest.fixture
def run(world):
    return world.run()


def gather(run, *stems):
    """Start a file that is worked on, and then others that wait; return all clients."""
    clients = [run.start("first")]
    run.until_noted("call first")
    clients += [run.start(stem) for stem in stems]
    wait_until(lambda: all(c.poll() is None for c in clients), "all have started")
    # A client has reached the host when the host has a connection more.
    wait_until(lambda: connections(run) >= len(clients), "all clients are heard")
    return clients


def connections(run) -> int:
    """Return how many clients the host of a run is connected with."""
    [socket] = [path for path in run.runtime_files() if path.suffix == ".sock"]
    lines = Path("/proc/net/unix").read_text().splitlines()
    # 03 is connected, see /proc/net/unix in proc(5).
    return sum(line.endswith(f" {socket}") and " 03 " in line for line in lines)


def go(run) -> None:
    (run.path / "go").touch()


def ends(clients):
    return [finish(client)[0] for client in clients]


def sizes(run) -> list[int]:
    return [len(line.split()) - 1 for line in run.noted("call")]


@pytest.mark.parametrize("base", BASES)
def test_files_of_many_clients_are_one_call(run, base):
    run.add_task(code(run.path / "go", base), batch_size=8)
    stems = [f"f{number}" for number in range(5)]
    clients = gather(run, *stems)
    go(run)
    assert ends(clients) == [0] * 6
    assert sizes(run) == [1, 5]
    assert run.output("f3").read_text() == "CONTENT OF 'F3'"
    assert run.names() == sorted(f"{stem}.out" for stem in ["first", *stems])


@pytest.mark.parametrize("base", BASES)
def test_file_that_raises_in_a_batch_fails_alone(run, base):
    run.add_task(code(run.path / "go", base), batch_size=8)
    clients = gather(run, "a", "bad", "c")
    go(run)
    assert ends(clients) == [0, 0, 1, 0]
    assert run.names() == ["a.out", "bad.err", "c.out", "first.out"]
    assert run.record("bad")["exception_type"] == "ValueError"
    assert sizes(run) == [1, 3, 1, 1, 1]
    assert "run_batch failed for 3 files, so they are run one by one" in run.log()


@pytest.mark.parametrize("base", BASES)
def test_file_that_kills_its_worker_in_a_batch_fails_alone(run, base):
    run.add_task(code(run.path / "go", base), batch_size=8)
    clients = gather(run, "a", "kill", "c")
    go(run)
    assert ends(clients) == [0, 0, 1, 0]
    assert run.names() == ["a.out", "c.out", "first.out", "kill.err"]
    assert run.record("kill")["message"] == (
        "the worker was killed by signal 9 (SIGKILL) while processing kill.in"
    )


@pytest.mark.parametrize("base", BASES)
def test_file_that_takes_too_long_in_a_batch_fails_alone(run, base):
    run.add_task(code(run.path / "go", base), batch_size=8, timeout=2.0)
    go(run)
    clients = [run.start(stem) for stem in ("a", "slow", "c")]
    assert ends(clients) == [0, 1, 0]
    assert run.names() == ["a.out", "c.out", "slow.err"]
    assert run.record("slow")["message"] == "run took longer than the timeout of 2 s"


def test_batch_in_progress_is_given_up_when_no_client_is_left(run):
    run.add_task(code(run.path / "go"), batch_size=8)
    clients = gather(run, "wait1", "wait2")
    run.stop()
    assert ends(clients) == [1, 1, 1]
    assert run.names() == []
    assert run.noted()[-1] == "teardown"


# The command line of a task.

ALONE = """
import os, pathlib, time
from tigerflow.tasks import LocalTask

here = pathlib.Path(__file__).parent

class Job(LocalTask):
    batch_size = 3

    @staticmethod
    def run_batch(context, pairs):
        stems = [source.stem for source, _ in pairs]
        with (here / "calls").open("a") as file:
            print(*stems, file=file)
        for source, output in pairs:
            if source.stem == "bad":
                raise ValueError("this one")
            if source.stem == "wait":
                while not (here / "go").exists():
                    time.sleep(0.01)
            output.write_text(source.read_text())

Job.cli()
"""


def calls(bench) -> list[str]:
    path = bench.path / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_command_line_processes_existing_files_in_batches(bench):
    bench.give(a="1", b="2", bad="3", c="4", d="5")
    service = bench.once(ALONE)
    assert service.end() == 1
    assert calls(bench) == ["a b bad", "a", "b", "bad", "c d"]
    assert bench.results() == ["a.out", "b.out", "bad.err", "c.out", "d.out"]
    metrics = [line for line in service.log.splitlines() if "METRICS" in line]
    rows = [json.loads(line[line.index("{") :]) for line in metrics]
    assert [(row["file"], row["status"]) for row in rows] == [
        ("a.txt", "success"),
        ("b.txt", "success"),
        ("bad.txt", "error"),
        ("c.txt", "success"),
        ("d.txt", "success"),
    ]
    assert all(row["started_at"] <= row["finished_at"] for row in rows)


@pytest.mark.parametrize(("size", "expected"), [("1", 5), ("2", 3), ("50", 1)])
def test_batch_size_is_an_option(bench, size, expected):
    bench.give(a="1", b="2", c="3", d="4", e="5")
    assert bench.once(ALONE, batch_size=size).end() == 0
    assert len(calls(bench)) == expected


def test_batch_in_progress_is_finished_after_a_signal(bench):
    bench.give(a="1", wait="2", x="3", y="4")
    service = bench.start(ALONE)
    wait_until(lambda: calls(bench) == ["a wait x"], "the batch is in progress")
    service.process.send_signal(signal.SIGTERM)
    service.wait_for("Received signal")
    (bench.path / "go").touch()
    assert service.end() == 128 + signal.SIGTERM
    assert bench.results() == ["a.out", "wait.out", "x.out"]


def test_task_without_batches_has_no_such_option(bench):
    code = ALONE.replace("run_batch(context, pairs)", "run(context, source, output)")
    service = bench.once(code, batch_size="3")
    assert service.end() == 2
    assert "No such option: --batch-size" in service.log


# In a pipeline.

WORK = {"name": "work", "module": "tasks.py:Work"}
STEMS = [f"f{number:02}" for number in range(24)]


def call_sizes(flow) -> list[int]:
    return sorted((len(line.split()) - 1 for line in flow.noted("call")), reverse=True)


@pytest.mark.snakemake
@pytest.mark.parametrize("base", ["LocalTask", "LocalAsyncTask"])
def test_service_gives_what_waits_in_batches(world, base):
    flow = Watched(world)
    kind = {"LocalTask": {}, "LocalAsyncTask": {"kind": "local_async"}}[base]
    limit = {"concurrency_limit": 2} if kind else {}
    flow.add_module(code(flow.root / "go", base))
    flow.write(WORK | kind | limit | {"batch_size": 5})
    (flow.root / "go").touch()
    flow.add_inputs(*STEMS, "bad")
    assert flow.once() == 1
    assert flow.texts("work").keys() == {f"{s}.out" for s in STEMS} | {"bad.err"}
    assert call_sizes(flow)[0] == 5
    assert len(call_sizes(flow)) <= 8 + 5
    counts = Counter(event.name for event in flow.events(FileDone))
    assert counts["file_done"] == len(STEMS)


@pytest.mark.snakemake
def test_stopped_service_finishes_the_batch_in_progress(world):
    flow = Watched(world)
    flow.add_module(code(flow.root / "go"))
    flow.write(WORK | {"batch_size": 2})
    flow.add_inputs("wait1", "wait2", "wait3", "wait4")
    process = flow.watch()
    wait_until(lambda: flow.noted("call"), "a batch is in progress")
    process.send_signal(signal.SIGINT)
    flow.until_said("shutdown")
    (flow.root / "go").touch()
    assert process.wait(DEADLINE_S) == 128 + signal.SIGINT
    assert len(flow.noted("call")) == 1
    # Snakemake sends them in no order.
    in_hand = sorted(flow.noted("call")[0].split()[1:])
    assert flow.names("work") == [f"{stem}.out" for stem in in_hand]


@pytest.mark.snakemake
def test_service_continues_after_a_kill_with_a_batch_in_progress(world):
    flow = Watched(world)
    flow.add_module(code(flow.root / "go"))
    flow.write(WORK)
    flow.add_inputs("wait1", "wait2", "wait3")
    process = flow.watch()
    wait_until(lambda: flow.noted("call"), "a batch is in progress")
    kill(process.pid)
    process.wait()
    (flow.root / "go").touch()
    assert flow.once() == 0
    texts = {f"{stem}.out": stem.upper() for stem in ("wait1", "wait2", "wait3")}
    assert flow.texts("work") == texts
    assert NOTHING_TO_DO in flow.dry_run()


@pytest.mark.snakemake
@pytest.mark.parametrize("executor", ["local", "tigerflow"])
def test_plain_snakemake_has_batches_of_what_its_jobs_bring(world, executor):
    flow = Flow(world)
    flow.add_module(code(flow.root / "go"))
    flow.compile(WORK)
    stems = [f"wait{number:02}" for number in range(20)]
    flow.add_inputs(*stems, "bad")
    process = flow.start("--executor", executor, cores=1)
    wait_until(lambda: flow.noted("call"), "a file is in progress")
    if executor == "local":
        # One core, and as many jobs as two batches have.
        wait_until(lambda: connections(flow) == 2 * 8, "all clients are heard")
    (flow.root / "go").touch()
    status, said = finish(process)
    assert status == 1, said
    assert flow.names("work") == ["bad.err", *(f"{stem}.out" for stem in stems)]
    assert call_sizes(flow)[0] == 8
