"""File servers that do not answer, or say nonsense, for a while: a service waits."""

import errno
import time

import pytest
from remote import SCANS
from runs import wait_until
from single_task import slurm_task, task
from two_hosts import jobs_on, two_hosts

from tigerflow.rundir.events import WorkerChanged
from tigerflow.rundir.layout import mailboxes

CODE = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        if input_file.stem == "long":
            wait_for("go")
        output_file.write_text(input_file.read_text())
"""
WORK = {"name": "work", "module": "tasks.py:Work"}
NUMBERS = [errno.EIO, errno.ESTALE, errno.ENOTCONN]


@pytest.fixture
def host(flow):
    """The host of a flow's service, whose file server can fail."""
    flow.add_module(CODE)
    flow.write(WORK)
    with two_hosts(flow.root, [flow.inputs, flow.out], 1) as (one, _):
        flow.host = one.prefix
        flow.environment |= SCANS
        yield one


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("lost", ["inputs", "out", "both"])
def test_service_continues_after_an_outage_without_failing_a_file(
    flow, host, number, lost
):
    names = {"inputs": ["in"], "out": ["out"], "both": ["in", "out"]}[lost]
    mounts = [mount for path, (_, mount) in host.mounts.items() if path.name in names]
    process = flow.watch()
    flow.add_inputs("a")
    flow.until("work/a.out")
    flow.add_inputs("long")
    wait_until(lambda: "run long" in flow.noted())
    for mount in mounts:
        mount.fail(number)
    # One that has arrived, and one that is in progress.
    flow.add_inputs("b")
    (flow.root / "go").touch()
    flow.until_said("paused until this is fixed")
    for mount in mounts:
        mount.heal()
    flow.add_inputs("c")
    flow.until("work/long.out", "work/b.out", "work/c.out")
    wait_until(lambda: flow.settled("a", "b", "c", "long"))
    assert flow.stop(process) == 130
    assert not [name for name in flow.names("work") if name.endswith(".err")]


def test_service_that_waits_for_a_file_server_can_be_stopped(flow, host):
    process = flow.watch()
    flow.add_inputs("a")
    flow.until("work/a.out")
    host.fail(errno.EIO)
    flow.until_said("paused until this is fixed")
    assert flow.stop(process) == 130
    host.heal()
    flow.add_inputs("b")
    assert flow.once() == 0
    assert flow.names("work") == ["a.out", "b.out"]


def test_service_continues_when_a_hung_file_server_answers_again(flow, host):
    process = flow.watch()
    flow.add_inputs("long")
    wait_until(lambda: "run long" in flow.noted())
    host.hang()
    flow.add_inputs("b")
    (flow.root / "go").touch()
    over = time.monotonic() + 5
    wait_until(lambda: time.monotonic() > over, "the outage has been long enough")
    host.heal()
    flow.add_inputs("c")
    wait_until(lambda: flow.settled("b", "c", "long"))
    assert flow.stop(process) == 130
    assert flow.names("work") == ["b.out", "c.out", "long.out"]
    assert flow.noted() == ["run b", "run c", "run long"]


def test_service_continues_when_its_input_directory_comes_back(flow):
    flow.add_module(CODE)
    flow.write(WORK)
    process = flow.watch()
    flow.add_inputs("a", "long")
    flow.until("work/a.out")
    wait_until(lambda: "run long" in flow.noted())
    away = flow.root / "away"
    flow.inputs.rename(away)
    (away / "b.txt").write_text("b")
    (flow.root / "go").touch()
    flow.until_said("No such file or directory; paused until this is fixed")
    away.rename(flow.inputs)
    flow.until_said("Inputs and results can be read and written again")
    flow.add_inputs("c")
    flow.until("work/long.out", "work/b.out", "work/c.out")
    wait_until(lambda: flow.settled("a", "b", "c", "long"))
    assert flow.stop(process) == 130
    assert not [name for name in flow.names("work") if name.endswith(".err")]
    assert sorted(set(flow.noted())) == ["run a", "run b", "run c", "run long"]


@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_single_task_continues_after_an_outage_without_failing_a_file(bench, kind):
    run = """
    if input_file.stem == "long":
        (here / "begun").touch()
        wait_for("go")
    output_file.write_text(input_file.read_text())
    """
    with two_hosts(bench.path, [bench.inputs, bench.outputs], 1) as (one, two):
        bench.host = one.prefix
        bench.environment |= jobs_on(two)
        if kind == "slurm":
            few = ("--max-workers=1", "--cpus=1", "--memory=1G", "--time=30")
            service = bench.start(slurm_task(run=run), *few)
        else:
            service = bench.start(task(run=run))
        bench.give(long="long")
        wait_until((bench.path / "begun").exists)
        one.fail(errno.EIO)
        two.fail(errno.EIO)
        bench.give(b="b")
        (bench.path / "go").touch()
        service.wait_for("paused until this is fixed")
        one.heal()
        two.heal()
        wait_until(lambda: {"b.out", "long.out"} <= set(bench.results()))
        assert service.process.poll() is None
        assert service.stop() == 143
    assert not list(bench.outputs.glob("*.err"))


SLURM = {
    "kind": "slurm",
    "max_workers": 1,
    "worker_resources": {"cpus": 1, "memory": "1G", "time": "00:30:00"},
}
LOST_S = 8


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_outage_on_both_hosts_does_not_count_as_a_workers_death(flow, how):
    flow.add_module(CODE.replace("LocalTask", "SlurmTask"))
    flow.write(WORK | SLURM)
    with two_hosts(flow.root, [flow.inputs, flow.out], 1) as hosts:
        flow.host = hosts[0].prefix
        flow.environment |= SCANS | jobs_on(hosts[1])
        flow.environment["TIGERFLOW_WORKER_LOST_TIMEOUT"] = str(LOST_S)
        process = flow.watch()
        flow.add_inputs("long")
        wait_until(lambda: "run long" in flow.noted())
        for host in hosts:
            host.fail(errno.EIO) if how == "fails" else host.hang()
        over = time.monotonic() + 2 * LOST_S
        wait_until(lambda: time.monotonic() > over, "the outage has been long enough")
        for host in hosts:
            host.heal()
        # Each of them has looked at the other again.
        (pulse,) = (flow.out / mailboxes("work")).glob("*/0/pulse")
        for sign in (pulse, flow.out / ".tigerflow" / "mailboxes" / "pulse"):
            for _ in range(2):
                before = sign.read_bytes()
                wait_until(lambda s=sign, b=before: s.read_bytes() != b, "it lives")
        (flow.root / "go").touch()
        flow.add_inputs("b")
        flow.until("work/long.out", "work/b.out")
        assert flow.stop(process) == 130
    assert flow.noted() == ["run b", "run long"]
    assert "sign of life" not in flow.said
    launched = [e for e in flow.events(WorkerChanged) if e.state == "launched"]
    assert len(launched) == 1
