"""Services whose host and whose workers' host each remember what they have seen."""

import pytest
from runs import wait_until
from single_task import slurm_task
from two_hosts import jobs_on, two_hosts

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
        text = input_file.read_text()
        note(f"run {input_file.stem} {text}")
        if text == "bad":
            raise ValueError("this one is bad")
        output_file.write_text(text)
"""

FEW = ("--max-workers=1", "--cpus=1", "--memory=1G", "--time=30")

each_cache = pytest.mark.parametrize("cache_s", CACHES, ids=lambda each: f"{each} s")


@pytest.fixture
def hosts(flow, cache_s):
    """The host of a flow's service, and that of its jobs."""
    flow.add_module(CODE)
    flow.write(WORK)
    with two_hosts(flow.root, [flow.inputs, flow.out], cache_s) as (one, two):
        flow.host = one.prefix
        flow.environment |= jobs_on(two)
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
    wait_until(lambda: len(flow.events("file_failed")) == 2)
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
