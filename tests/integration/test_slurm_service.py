"""A service whose workers are Slurm jobs: what they cost, how many there are."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest
from runs import DEADLINE_S
from slurm.hosts import ClusterError, run
from slurm_flows import ALONE, SlurmFlow, full_nodes, until

from tigerflow.rundir.events import TaskDone, WorkerChanged

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


def test_the_journal_tells_when_each_worker_lived_and_where(flow, slurm):
    flow.serve(max_workers=2)
    flow.add_inputs(*(f"f{number}" for number in range(6)))
    assert flow.finish() == 0, flow.said
    changes = flow.events(WorkerChanged)
    for number in {change.worker for change in changes}:
        of_it = [each for each in changes if each.worker == number]
        states = [each.state for each in of_it]
        assert states in (
            ["launched", "started", "ready", "ended"],
            # A job that came too late for any file.
            ["launched", "ended"],
        )
        if "started" in states:
            assert of_it[1].note in slurm.nodes
    tries = flow.events(TaskDone)
    assert {each.worker for each in tries} <= {1, 2}
    assert len(tries) == 6


@pytest.mark.parametrize("lost", ["service", "login node"])
def test_jobs_that_stay_pending_count_also_after_a_kill_and_a_restart(
    flow, slurm, lost
):
    flow.serve(max_workers=2)
    flow.add_inputs(*(f"f{number}" for number in range(6)))
    with full_nodes(slurm) as others:
        process = flow.watch()
        until(lambda: len(slurm.jobs()) == others + 2, "two jobs are pending")
        flow.count.look()
        if lost == "login node":
            flow.lose(process)
        process.kill()
        process.wait()
        process = flow.watch("--once")
        until(lambda: flow.said.count("Submitted task") >= 4, "two are pending again")
        until(lambda: len(slurm.jobs()) == others + 2, "two jobs are pending")
        flow.count.look()
    assert flow.ended(process) == 0, flow.said
    assert len(flow.count.most) == 2
    flow.check(*(f"f{number}" for number in range(6)))


def test_jobs_that_are_pending_for_long_are_waited_for(flow, slurm):
    # Meanwhile, each of these times is over more than once.
    flow.environment["TIGERFLOW_WORKER_IDLE_TIMEOUT"] = "2"
    flow.environment["TIGERFLOW_WORKER_LOST_TIMEOUT"] = "6"
    flow.environment["TIGERFLOW_SLURM_TASK_WORKER_STARTUP_TIMEOUT"] = "20"
    flow.serve(max_workers=2)
    stems = [f"f{number}" for number in range(6)]
    flow.add_inputs(*stems)
    with full_nodes(slurm) as others:
        process = flow.watch("--once")
        until(lambda: len(slurm.jobs()) == others + 2, "two jobs are pending")
        before, end = slurm.jobs(), time.monotonic() + 25
        until(lambda: time.monotonic() > end, "all these times are over")
        flow.count.look()
        assert slurm.jobs() == before
    assert flow.ended(process) == 0, flow.said
    assert flow.said.count("Submitted task") == 2, flow.said
    flow.check(*stems)


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
    until(lambda: len(slurm.jobs()) == 4, lambda: f"all of ours have gone: {flow.said}")
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
        # The last of them is alone in a job for two.
        max_workers=3,
        workers_per_job=2,
        resources={"gpus": "v100:1"},
    )
    flow.add_inputs("a", "b", "c")
    process = flow.watch("--once")
    until(lambda: len(flow.in_order("run")) == 3, "all run")
    flow.go()
    assert flow.ended(process) == 0, flow.said
    seen = [line.split()[1:] for line in flow.in_order("setup")]
    assert len({job for job, _ in seen}) == 2
    assert all(len(gpus.split(",")) == 1 for _, gpus in seen)
    assert len({(job, gpus) for job, gpus in seen}) == 3
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


#: Tells how a socket of somebody else answers; it is the first argument.
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"

#: Prints the command lines of all processes there are.
COMMANDS = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"


@pytest.fixture
def secret(flow, slurm):
    """A worker at a file whose name is nobody's business, and a guest on its node."""
    flow.serve()
    flow.add_inputs("wait-for-secret")
    previous = os.umask(0)
    try:
        process = flow.watch("--once")
    finally:
        os.umask(previous)
    job, _ = flow.until_running("wait-for-secret")
    for path in (flow.world.directory, *flow.world.directory.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    guest, node = slurm.add_guest(), slurm.nodes[flow.node_of(job)]

    def call(command, *words, host=node.run):
        """Run a command of the shell, as the guest."""
        runuser = ("runuser", "-u", guest, "--", "sh", "-c", command, "sh", *words)
        return host(*runuser, env=slurm.environment)

    yield call
    flow.go()
    assert flow.ended(process) == 0, flow.said
    slurm.remove_guest()
    flow.check("wait-for-secret")


@pytest.mark.xdist_group("users of this machine")
def test_another_user_can_neither_read_nor_write_mailboxes(flow, secret):
    [job] = flow.mailboxes()
    mailboxes = flow.out / ".tigerflow" / "mailboxes"
    # Where everybody may look, the guest can.
    assert secret(f"ls {flow.out}").split()
    for command in (
        f"ls {mailboxes}",
        f"ls {job}/0",
        f"cat {job}/0/inbox",
        f"cat {job}/0/outbox",
        f"cat {job}/0/log",
        f"echo x >> {job}/0/inbox",
        f"echo x >> {job}/0/outbox",
        f"echo x > {job}/0/exit",
        f"mkdir {job}/1",
        f"mv {job} {job.parent}/other",
        f"echo x > {mailboxes}/pulse",
    ):
        with pytest.raises(ClusterError, match="Permission denied"):
            secret(command)
    for path in [mailboxes, *mailboxes.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.xdist_group("users of this machine")
def test_another_user_can_neither_see_nor_use_the_sockets_of_a_service(flow, secret):
    sockets = [path for path in flow.runtime_files() if path.is_socket()]
    assert sockets
    for path in sockets:
        for command, *words in (
            (f"ls {path.parent}",),
            (f"/usr/bin/env python3 -c '{CONNECT}' \"$1\"", path),
        ):
            with pytest.raises(ClusterError, match="Permission denied"):
                secret(command, *words, host=run)


@pytest.mark.xdist_group("users of this machine")
def test_another_user_sees_no_name_of_a_file_among_jobs_and_processes(secret):
    seen = secret("squeue --format=%all; scontrol show job --all --details")
    assert "rule_work" in seen
    seen += secret(COMMANDS) + secret(COMMANDS, host=run)
    assert "tigerflow.workers.process.remote" in seen
    assert "secret" not in seen
