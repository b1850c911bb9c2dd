"""A service whose workers are Slurm jobs: what they cost, how many there are."""

import os
import signal
import stat
from pathlib import Path

import pytest
from runs import DEADLINE_S
from slurm.hosts import ClusterError
from slurm_flows import ALONE, SlurmFlow, full_nodes, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]


@pytest.fixture
def flow(world, slurm):
    made = SlurmFlow(world, slurm)
    with made.count:
        yield made


def test_setup_is_paid_once_a_worker_however_many_files_and_windows(flow):
    flow.serve(max_workers=2)
    stems = [f"f{number:03}" for number in range(240)]
    flow.add_inputs(*stems)
    assert flow.finish() == 0, flow.said
    assert 1 <= len(flow.noted("setup")) <= 2
    assert len(flow.noted("teardown")) == len(flow.noted("setup"))
    assert len(flow.noted("run")) == 240
    flow.check(*stems)


def test_workers_come_with_the_files_and_go_when_idle(flow, slurm):
    flow.environment["TIGERFLOW_WORKER_IDLE_TIMEOUT"] = "2"
    flow.serve(max_workers=3)
    process = flow.watch()
    flow.until_said("Starting pipeline execution")
    assert slurm.jobs() == []
    flow.add_inputs(*(f"wait{number}" for number in range(8)))
    until(lambda: len(flow.in_order("run")) == 3, "all workers are busy")
    flow.count.look()
    flow.go()
    until(lambda: len(flow.names("work")) == 8, "all files are done")
    until(lambda: not slurm.jobs(), "all jobs have ended")
    assert len(flow.count.most) == 3
    assert len(flow.in_order("teardown")) == len(flow.in_order("setup"))
    flow.add_inputs("later")
    flow.until("work/later.out")
    assert flow.stop(process) == 130
    flow.check("later", *(f"wait{number}" for number in range(8)))


def test_jobs_that_stay_pending_count_also_after_a_kill_and_a_restart(flow, slurm):
    flow.serve(max_workers=2)
    flow.add_inputs(*(f"f{number}" for number in range(6)))
    with full_nodes(slurm) as others:
        process = flow.watch()
        until(lambda: len(slurm.jobs()) == others + 2, "two jobs are pending")
        flow.count.look()
        process.kill()
        process.wait()
        process = flow.watch("--once")
        until(lambda: flow.said.count("Submitted task") >= 4, "two are pending again")
        until(lambda: len(slurm.jobs()) == others + 2, "two jobs are pending")
        flow.count.look()
    assert flow.ended(process) == 0, flow.said
    assert len(flow.count.most) == 2
    flow.check(*(f"f{number}" for number in range(6)))


def test_jobs_that_still_wait_when_nothing_is_left_to_do_are_cancelled(flow, slurm):
    flow.environment["TIGERFLOW_WORKER_IDLE_TIMEOUT"] = "2"
    flow.serve(max_workers=2)
    # There is room for one worker.
    words = ("--exclusive", "--output=/dev/null", "--nodes=1", "--exclude=n1")
    for _ in range(3):
        slurm.submit(*words, command="sleep 1000")
    slurm.submit(
        *("--cpus-per-task=15", "--output=/dev/null", "--nodelist=n1"),
        command="sleep 1000",
    )
    until(
        lambda: slurm.call("squeue", "--noheader", "--states=RUNNING").count("\n") == 4
    )
    flow.add_inputs("a", "b", "c", "second")
    process = flow.watch()
    flow.until("work/a.out", "work/b.out", "work/c.out", "work/second.out")
    until(lambda: len(slurm.jobs()) == 4, f"all of ours have gone: {flow.said}")
    assert flow.stop(process) == 130
    slurm.call("scancel", *slurm.jobs())
    flow.check("a", "b", "c", "second")


def test_workers_of_a_job_share_its_gpus(flow):
    flow.serve(
        ALONE
        + """
class Work(SlurmTask):
    def setup(context):
        job, gpus = os.environ["SLURM_JOB_ID"], os.environ["CUDA_VISIBLE_DEVICES"]
        note(f"setup {job} {gpus}")
    def run(context, input_file, output_file):
        with alone(input_file):
            note(f"run {input_file.stem}")
            wait_for("go")
""",
        max_workers=2,
        workers_per_job=2,
        resources={"gpus": "v100:2"},
    )
    flow.add_inputs("a", "b", "c")
    process = flow.watch("--once")
    until(lambda: len(flow.in_order("run")) == 2, "both run")
    flow.go()
    assert flow.ended(process) == 0, flow.said
    (first, ours), (second, theirs) = (s.split()[1:] for s in flow.in_order("setup"))
    assert first == second
    assert len(ours.split(",")) == len(theirs.split(",")) == 2
    assert not set(ours.split(",")) & set(theirs.split(","))
    flow.check("a", "b", "c")


@pytest.mark.parametrize("how", ["stop", "interrupt", "force"])
def test_service_is_stopped_while_workers_run_and_wait(flow, slurm, how):
    flow.serve(max_workers=2)
    with full_nodes(slurm):
        flow.add_inputs("wait")
        process = flow.watch()
        until(lambda: "Submitted" in flow.said, "its job waits")
    flow.until_running("wait")
    if how == "interrupt":
        process.send_signal(signal.SIGINT)
    else:
        words = ["--force"] if how == "force" else []
        assert flow.command("stop", flow.out, *words).wait(DEADLINE_S) == 0
    if how != "force":
        flow.until_said("Received signal")
        flow.go()
    assert flow.ended(process) != 0
    flow.check(*(["wait"] if how != "force" else []))


def test_another_user_can_neither_read_nor_write_mailboxes(flow, slurm):
    flow.serve()
    flow.add_inputs("wait-for-secret")
    previous = os.umask(0)
    try:
        process = flow.watch("--once")
    finally:
        os.umask(previous)
    flow.until_running("wait-for-secret")
    [job] = flow.mailboxes()
    for path in (flow.world.directory, *flow.world.directory.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    guest = slurm.add_guest()
    node = slurm.nodes[flow.node_of(flow.runs("wait-for-secret")[0][0])]
    as_guest = ("runuser", "-u", guest, "--", "sh", "-c")
    assert node.run(*as_guest, f"ls {flow.out}").split()
    for command in (
        f"ls {job}/0",
        f"cat {job}/0/inbox",
        f"echo x >> {job}/0/inbox",
        f"ls {flow.out}/.tigerflow/mailboxes",
        f"echo x > {flow.out}/.tigerflow/mailboxes/pulse",
    ):
        with pytest.raises(ClusterError, match="Permission denied"):
            node.run(*as_guest, command)
    for path in [job.parent.parent, *job.parent.parent.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("wait-for-secret")
