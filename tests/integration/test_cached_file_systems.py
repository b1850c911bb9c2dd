"""Services whose host and whose workers' host each remember what they have seen."""

import subprocess
import sys

import pytest
from remote import SCANS
from runs import DEADLINE_S, wait_until
from services import kill
from single_task import slurm_task
from two_hosts import jobs_on, two_hosts

from tigerflow.rundir.events import FileFailed

#: For how many seconds a host remembers something: acregmin of nfs(5), and acdirmin.
CACHES = [3, 30]

WORK = {
    "name": "work",
    "module": "tasks.py:Work",
    "kind": "slurm",
    "max_workers": 1,
    "worker_resources": {"cpus": 1, "memory": "1G", "time": "00:30:00"},
}

CODE = """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        text = input_file.read_text().strip()
        note(f"run {input_file.stem} {text}")
        if text == "long":
            wait_for("go")
        if text == "bad" and not pathlib.Path(__file__, "../mended").resolve().exists():
            raise ValueError("this one is bad")
        output_file.write_text(text)
"""

FEW = ("--max-workers=1", "--cpus=1", "--memory=1G", "--time=30")

#: Longer than a test: nothing may wait for a host to forget something.
FOR_EVER = 3600

for_ever = pytest.mark.parametrize("cache_s", [FOR_EVER])
each_cache = pytest.mark.parametrize("cache_s", CACHES, ids=lambda each: f"{each} s")


@pytest.fixture
def hosts(flow, cache_s):
    """The host of a flow's service, and that of its jobs."""
    flow.add_module(CODE)
    flow.write(WORK)
    with two_hosts(flow.root, [flow.inputs, flow.out], cache_s) as (one, two):
        flow.host = one.prefix
        flow.environment |= SCANS | jobs_on(two)
        yield one, two


@pytest.fixture
def task_hosts(bench, cache_s):
    """The same for a task by itself."""
    with two_hosts(bench.path, [bench.inputs, bench.outputs], cache_s) as (one, two):
        bench.host = one.prefix
        bench.environment |= jobs_on(two)
        yield one, two


@each_cache
@pytest.mark.usefixtures("hosts")
def test_failed_file_of_a_job_is_run_once_and_keeps_its_error(flow):
    process = flow.watch()
    flow.add_inputs("a")
    flow.until("work/a.out")
    flow.add_inputs("bad")
    flow.until_said("failed file")
    # Its error is seen to go, and its output to come.
    flow.replace("bad.txt", "good")
    flow.until("work/bad.out")
    wait_until(lambda: flow.settled("a", "bad"))
    # Its output is seen to be another, then to go.
    flow.replace("a.txt", "new")
    wait_until(lambda: flow.texts("work").get("a.out") == "new")
    flow.replace("a.txt", "bad")
    flow.until("work/a.err")
    wait_until(lambda: len(flow.events(FileFailed)) == 2)
    assert flow.stop(process) == 130
    assert "this one is bad" in (flow.out / "work" / "a.err").read_text()
    assert flow.noted() == [
        "run a a",
        "run a bad",
        "run a new",
        "run bad bad",
        "run bad good",
    ]


@each_cache
@pytest.mark.usefixtures("task_hosts")
def test_failed_file_of_a_slurm_task_by_itself_is_run_once_and_keeps_its_error(bench):
    run = """
    with (here / "notes").open("a") as notes:
        notes.write(input_file.stem)
    if input_file.stem == "b":
        raise ValueError("this one is bad")
    output_file.write_text("done")
    """
    service = bench.start(slurm_task(run=run), *FEW)
    bench.give(a="a")
    wait_until((bench.outputs / "a.out").exists)
    bench.give(b="b")
    service.wait_for('"status": "error"')
    bench.give(c="c")
    wait_until((bench.outputs / "c.out").exists)
    assert service.stop() == 143
    assert bench.error("b")["message"] == "this one is bad"
    assert "No room" not in service.log
    assert (bench.path / "notes").read_text() == "abc"


def call(flow, host, *words):
    """Run a command on a host; return what it printed."""
    return subprocess.run(
        [*host.prefix, sys.executable, "-m", "tigerflow", *map(str, words)],
        cwd=flow.root,
        env=flow.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    ).stdout


@for_ever
@pytest.mark.usefixtures("hosts")
def test_file_of_a_worker_that_was_killed_goes_to_another_at_once(flow):
    process = flow.watch()
    flow.add_inputs("a")
    (flow.inputs / "b.txt").write_text("long")
    wait_until(lambda: "run b long" in flow.noted())
    [worker] = flow.world.processes("tigerflow.workers.process.remote")
    kill(worker)
    wait_until(lambda: flow.noted().count("run b long") == 2)
    (flow.root / "go").touch()
    flow.until("work/a.out", "work/b.out")
    assert flow.stop(process) == 130
    assert "killed by signal 9" in flow.said


@for_ever
@pytest.mark.usefixtures("hosts")
def test_unprocessed_version_is_not_deleted(flow):
    process = flow.watch("--delete-input")
    # More than Snakemake makes checksums of, for which it would open the file.
    (flow.inputs / "a.txt").write_text(f"{'long':2000000}")
    wait_until(lambda: flow.noted() == ["run a long"])
    flow.replace("a.txt", "new")
    (flow.root / "go").touch()
    wait_until(lambda: flow.settled("a"))
    # No event tells this host of it: its next full look comes when it forgets.
    assert flow.stop(process) == 130
    assert (flow.inputs / "a.txt").read_text() == "new"
    assert flow.once("--delete-input") == 0
    assert flow.texts("work") == {"a.out": "new"}
    assert list(flow.inputs.iterdir()) == []


@for_ever
def test_service_obeys_a_stop_from_another_host(flow, hosts):
    _, two = hosts
    flow.inputs.joinpath("a.txt").write_text("long")
    flow.out.joinpath(".tigerflow").mkdir()
    assert call(flow, two, "stop", flow.out) == "Pipeline is not running\n"
    process = flow.watch()
    wait_until(lambda: "run a long" in flow.noted())
    said = call(flow, two, "stop", flow.out)
    assert said == f"Asked pipeline to stop (pid {process.pid} on one)\n"
    flow.until_said("initiating shutdown")
    (flow.root / "go").touch()
    assert process.wait(DEADLINE_S) == 143
    assert flow.names("work") == ["a.out"]


@for_ever
def test_service_retries_files_on_request_from_another_host(flow, hosts):
    _, two = hosts
    process = flow.watch()
    (flow.inputs / "a.txt").write_text("bad")
    flow.until("work/a.err")
    wait_until(lambda: flow.events(FileFailed))
    (flow.root / "mended").touch()
    said = call(flow, two, "retry", flow.out)
    who = f"the running pipeline (pid {process.pid})"
    assert said == f"1 file will be processed again by {who}\n"
    flow.until("work/a.out")
    assert flow.stop(process) == 130
    assert flow.noted() == ["run a bad"] * 2


@for_ever
@pytest.mark.usefixtures("hosts")
def test_results_of_jobs_are_seen_by_snakemake_with_our_executor(flow):
    flow.compile(WORK)
    flow.add_inputs("a", "b")
    (flow.inputs / "c.txt").write_text("bad")
    profile = flow.out / ".tigerflow" / "workflow" / "profiles" / "workers"
    words = ["--tigerflow-workers-profile", str(profile), "--keep-going"]
    code, said = flow.snakemake("--executor", "tigerflow", *words)
    assert (code, flow.names("work")) == (1, ["a.out", "b.out", "c.err"]), said
    (flow.root / "mended").touch()
    code, said = flow.snakemake("--executor", "tigerflow", *words)
    assert (code, flow.names("work")) == (0, ["a.out", "b.out", "c.out"]), said
    assert flow.noted() == ["run a a", "run b b", "run c bad", "run c bad"]


@for_ever
def test_second_service_sees_one_that_has_just_started_on_another_host(flow, hosts):
    _, two = hosts
    flow.out.joinpath(".tigerflow").mkdir()
    assert call(flow, two, "stop", flow.out) == "Pipeline is not running\n"
    process = flow.watch()
    flow.until_said("Starting pipeline execution")
    flow.host = two.prefix
    assert flow.once() == 1
    said = f"Pipeline is already running (pid {process.pid} on one)"
    assert said in flow.said
    assert flow.stop(process) == 130
