"""What nobody expects to happen ends a run with an error: no file waits for ever."""

import json
from pathlib import Path

import pytest
from runs import DEADLINE_S, finish
from single_task import slurm_task
from two_hosts import MAILBOXES

#: Workers are in jobs, which are processes of this host; each has little grace.
IN_JOBS = {
    "PYTHONPATH": str(MAILBOXES),
    "TEST_SECOND_HOST": "[]",
    "TIGERFLOW_WORKER_GRACE": "1",
}

#: A worker of which nobody understands what it says, and that then says nothing more.
ODD = """
        for outbox in here.rglob("outbox"):
            {do}
        while True:
            time.sleep(0.01)
"""
CODE = """
here = pathlib.Path(__file__).parent

class Work(SlurmTask):
    def run(context, input_file, output_file):{run}
"""
WORK = {
    "name": "work",
    "kind": "slurm",
    "module": "tasks.py:Work",
    "max_workers": 1,
    "worker_resources": {"cpus": 1, "memory": "1G", "time": "00:30:00"},
}


def _refuses_memory() -> bool:
    return Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "1"


@pytest.fixture(
    params=[
        pytest.param(
            ("with outbox.open('a') as f: f.write('{}\\n')", "TypeError("),
            id="in a callback",
        ),
        pytest.param(
            # No memory takes that.
            ("os.truncate(outbox, 1 << 43)", "MemoryError("),
            id="in the thread for mailboxes",
            marks=pytest.mark.skipif(
                not _refuses_memory(), reason="the kernel promises any memory"
            ),
        ),
    ]
)
def odd(request):
    """What a task does that nobody expects, and the error that comes of it."""
    do, error = request.param
    line = json.dumps({"type": "HandedBack", "ids": 5})
    return ODD.replace("{do}", do.replace("{}", line)), error


def test_task_by_itself_ends_with_an_error(bench, odd):
    body, error = odd
    bench.environment |= IN_JOBS
    bench.give(a="1", b="2")
    options = ("--max-workers=1", "--cpus=1", "--memory=1G", "--time=30")
    service = bench.start(slurm_task(run=body), *options)
    assert service.end() == 1, service.log
    assert f"ERROR Internal error: {error}" in "\n".join(service.messages())
    assert bench.results() == []


@pytest.mark.snakemake
def test_service_ends_with_an_error(flow, odd):
    body, error = odd
    flow.environment |= IN_JOBS
    flow.add_module(CODE.format(run=body))
    flow.write(WORK)
    flow.add_inputs("a", "b")
    assert flow.watch().wait(DEADLINE_S) == 1, flow.said
    assert f"Error: Internal error: {error}" in flow.said
    assert flow.names("work") == []


def test_host_that_clients_start_answers_all_files_and_ends_with_an_error(world, odd):
    body, error = odd
    run = world.run(**IN_JOBS)
    run.add_task(CODE.format(run=body).replace("SlurmTask", "LocalTask"))
    clients = [run.start("a"), run.start("b")]
    answers = [finish(client) for client in clients]
    assert [code for code, _ in answers] == [1, 1]
    assert any(f"internal error: {error}" in said for _, said in answers)
    host_log = (run.path / ".tigerflow/logs/host.log").read_text()
    assert "ERROR    | Internal error" in host_log
    assert run.names() == []
