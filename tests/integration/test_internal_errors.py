"""What nobody expects to happen ends a run with an error: no file waits for ever."""

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

#: Says for its worker what none of ours says, and then nothing more.
FORGE = """
        for outbox in here.rglob("outbox"):
            with outbox.open("a") as file:
                file.write('{"type": "HandedBack", "ids": 5}\\n')
        while True:
            time.sleep(0.01)
"""
CODE = f"""
here = pathlib.Path(__file__).parent

class Work(SlurmTask):
    def run(context, input_file, output_file):{FORGE}
"""
WORK = {
    "name": "work",
    "kind": "slurm",
    "module": "tasks.py:Work",
    "max_workers": 1,
    "worker_resources": {"cpus": 1, "memory": "1G", "time": "00:30:00"},
}
ERROR = "Internal error: TypeError("


def test_task_by_itself_ends_with_an_error(bench):
    bench.environment |= IN_JOBS
    bench.give(a="1", b="2")
    options = ("--max-workers=1", "--cpus=1", "--memory=1G", "--time=30")
    service = bench.start(slurm_task(run=FORGE), *options)
    assert service.end() == 1, service.log
    assert f"ERROR {ERROR}" in "\n".join(service.messages())
    assert bench.results() == []


@pytest.mark.snakemake
def test_service_ends_with_an_error(flow):
    flow.environment |= IN_JOBS
    flow.add_module(CODE)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    assert flow.watch().wait(DEADLINE_S) == 1, flow.said
    assert f"Error: {ERROR}" in flow.said
    assert flow.names("work") == []


def test_host_that_clients_start_answers_all_files_and_ends_with_an_error(world):
    run = world.run(**IN_JOBS)
    run.add_task(CODE.replace("SlurmTask", "LocalTask"))
    clients = [run.start("a"), run.start("b")]
    answers = [finish(client) for client in clients]
    assert [code for code, _ in answers] == [1, 1]
    assert any("internal error: TypeError(" in said for _, said in answers)
    host_log = (run.path / ".tigerflow/logs/host.log").read_text()
    assert "ERROR    | Internal error" in host_log
    assert run.names() == []
