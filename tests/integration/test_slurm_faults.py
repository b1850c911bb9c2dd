"""A service whose workers are Slurm jobs, and what can happen to these.

After each: every file has ended once, and of ours there is no job, mailbox, process or
temporary file. Never were two workers at one file, or more than `max_workers`.
"""

import os
import shutil
import signal

import pytest
from runs import lines
from slurm_flows import ALONE, WORK, SlurmFlow, full_nodes, parent_of, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]


@pytest.fixture
def flow(world, slurm):
    made = SlurmFlow(world, slurm)
    with made.count:
        yield made


def test_worker_is_cancelled_under_a_file(flow, slurm):
    flow.serve()
    flow.add_inputs("a", "wait")
    process = flow.watch("--once")
    job, _ = flow.until_running("wait")
    slurm.call("scancel", job)
    again, _ = flow.until_running("wait", 2)
    assert again != job
    flow.go()
    assert flow.ended(process) == 0, flow.said
    assert "teardown" in flow.in_order("teardown")
    flow.check("a", "wait")


def test_worker_is_killed_under_a_file(flow):
    flow.serve()
    flow.add_inputs("a", "wait")
    process = flow.watch("--once")
    job, pid = flow.until_running("wait")
    os.kill(flow.host_pid(flow.node_of(job), pid), signal.SIGKILL)
    flow.until_running("wait", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    assert "the worker was killed by signal 9 (SIGKILL) while processing" in flow.said
    flow.check("a", "wait")


def test_whole_job_is_killed_under_a_file(flow, slurm):
    flow.serve()
    flow.add_inputs("a", "wait")
    process = flow.watch("--once")
    job, _ = flow.until_running("wait")
    slurm.call("scancel", "--signal=KILL", "--full", job)
    flow.until_running("wait", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("a", "wait")


def test_whole_job_stands_still_under_a_file(flow):
    flow.serve()
    flow.add_inputs("a", "wait")
    process = flow.watch("--once")
    job, pid = flow.until_running("wait")
    worker = flow.host_pid(flow.node_of(job), pid)
    for frozen in (parent_of(worker), worker):
        os.kill(frozen, signal.SIGSTOP)
    again, _ = flow.until_running("wait", 2)
    assert again != job
    assert "has shown no sign of life for 12 s while processing wait.txt" in flow.said
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("a", "wait")


def test_file_that_kills_each_worker_fails_alone(flow):
    flow.serve(
        ALONE
        + """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        with alone(input_file):
            note(f"run {input_file.stem}")
            if input_file.stem == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    flow.add_inputs("a", "poison", "z")
    assert flow.finish() == 1, flow.said
    assert flow.in_order("run poison") == ["run poison"] * 3
    assert flow.record("poison")["exception_type"] == "WorkerDied"
    flow.check("a", "z", failed=("poison",))


def test_memory_is_exceeded(flow):
    flow.serve(
        ALONE
        + """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        with alone(input_file):
            note(f"run {input_file.stem}")
            if input_file.stem == "large":
                held = b"1" * 500_000_000
                signal.pause()
"""
    )
    flow.add_inputs("a", "large", "z")
    assert flow.finish() == 1, flow.said
    assert flow.in_order("run large") == ["run large"] * 3
    record = flow.record("large")
    assert record["exception_type"] == "WorkerDied"
    assert "exceeded memory limit" in record["message"]
    assert record["message"].endswith(" while processing large.txt")
    flow.check("a", "z", failed=("large",))


def test_worker_continues_while_the_slurmd_of_its_node_is_down(flow, slurm):
    flow.serve()
    flow.add_inputs("wait")
    process = flow.watch("--once")
    job, _ = flow.until_running("wait")
    slurm.stop_slurmd(flow.node_of(job))
    flow.until_running("wait", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("wait")


def test_node_crashes(flow, slurm):
    flow.serve()
    flow.add_inputs("wait")
    process = flow.watch("--once")
    job, _ = flow.until_running("wait")
    slurm.crash(flow.node_of(job))
    flow.until_running("wait", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("wait")


def test_wall_time_ends_before_the_work(flow):
    # Slurm's shortest limit is a minute, of which the grace leaves 16 s.
    flow.environment["TIGERFLOW_WORKER_WALL_TIME_GRACE"] = "44"
    flow.serve(
        ALONE
        + """
class Work(SlurmTask):
    def setup(context): note(f"setup {os.environ['SLURM_JOB_ID']}")
    def run(context, input_file, output_file):
        with alone(input_file):
            note(f"run {input_file.stem}")
            time.sleep(3.5)
    def teardown(context): note(f"teardown {os.environ['SLURM_JOB_ID']}")
""",
        resources={"time": "1"},
    )
    stems = [f"f{number}" for number in range(6)]
    flow.add_inputs(*stems)
    assert flow.finish() == 0, flow.said
    setups = flow.in_order("setup")
    assert len(setups) >= 2
    assert flow.in_order("teardown") == [f"teardown {s.split()[1]}" for s in setups]
    flow.check(*stems)


def test_wall_time_is_over_under_a_file_that_was_late(flow):
    flow.environment["TIGERFLOW_WORKER_WALL_TIME_GRACE"] = "40"
    flow.serve(
        ALONE
        + """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        with alone(input_file):
            note(f"run {input_file.stem}")
            if input_file.stem == "short":
                time.sleep(8)
            elif len(open(os.environ["NOTES"]).readlines()) < 3:
                time.sleep(1000)
            output_file.write_text("done")
    def teardown(context): note("teardown")
""",
        resources={"time": "1"},
    )
    flow.environment["NOTES"] = str(flow.notes)
    flow.add_inputs("short")
    process = flow.watch()
    until(lambda: flow.in_order("run short"), "short runs")
    flow.add_inputs("long")
    flow.until("work/long.out")
    assert flow.in_order("run") == ["run short", "run long", "run long"]
    flow.stop(process)
    assert flow.in_order("teardown") == ["teardown"] * 2
    flow.check("long", "short")


def test_wall_time_is_shorter_than_a_file(flow):
    flow.environment["TIGERFLOW_WORKER_WALL_TIME_GRACE"] = "45"
    flow.serve(resources={"time": "1"})
    flow.add_inputs("wait")
    assert flow.finish() == 1, flow.said
    assert len(flow.runs("wait")) == 1
    record = flow.record("wait")
    assert record["exception_type"] == "WallTimeOver"
    assert "allow more time in the task's worker_resources" in record["message"]
    assert flow.in_order("teardown") == ["teardown"]
    flow.check(failed=("wait",))


def test_wall_time_is_shorter_than_setup(flow):
    flow.environment["TIGERFLOW_WORKER_WALL_TIME_GRACE"] = "55"
    flow.serve(
        """
class Work(SlurmTask):
    def setup(context):
        note("setup")
        time.sleep(1000)
    def run(context, input_file, output_file): pass
""",
        resources={"time": "1"},
    )
    flow.add_inputs("a")
    assert flow.finish() == 1, flow.said
    assert flow.in_order("setup") == ["setup"]
    assert "its setup was not finished when its worker's wall time ended" in (flow.said)
    flow.check()


#: A branch beside the Slurm task, which goes on whatever becomes of that.
HEAD_AND_SIDE = """
class Head(LocalTask):
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text())

class Side(LocalTask):
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text())

"""


def _write_branches(flow, code, **task):
    flow.add_module(HEAD_AND_SIDE + code)
    below = {"depends_on": "head", "input_ext": ".out"}
    flow.write(
        {"name": "head", "module": "tasks.py:Head"},
        {"name": "side", "module": "tasks.py:Side"} | below,
        flow.task(**task) | below,
    )
    flow.add_inputs("a", "b")


def _check_stopped(flow, *words):
    """Check that the task has stopped, for reasons with these words; others went on."""
    assert flow.finish() == 1, flow.said
    [line] = [line for line in flow.said.splitlines() if "stopped: " in line]
    for word in words:
        assert word in line
    assert flow.names("side") == ["a.out", "b.out"]
    # Not again and again.
    assert flow.said.count("Submitted task") <= 1
    assert flow.jobs_log.count("sbatch call") <= 1
    flow.check()


def test_setup_raises(flow):
    code = """
class Work(SlurmTask):
    def setup(context):
        note("setup")
        raise ValueError("no such model")
    def run(context, input_file, output_file): pass
"""
    _write_branches(flow, code)
    _check_stopped(flow, "its setup failed: ValueError: no such model")
    assert flow.in_order("setup") == ["setup"]
    # With the node's traceback.
    assert "in setup" in flow.worker_logs
    assert "raise ValueError" in flow.worker_logs


def test_node_on_which_setup_fails_is_avoided_while_others_work(flow):
    code = """
class Work(SlurmTask):
    def setup(context):
        note("setup " + os.environ["SLURMD_NODENAME"])
        if os.environ["SLURMD_NODENAME"] == "n2":
            wait_for("ready")
            raise OSError("read-only file system")
    def run(context, input_file, output_file):
        pathlib.Path(os.environ["ROOT"], "ready").touch()
        note(f"run {input_file.stem}")
        wait_for("go")
"""
    flow.environment["ROOT"] = str(flow.root)
    # Each worker has a whole node.
    flow.serve(code, max_workers=2, resources={"cpus": 16})
    flow.add_inputs("a", "b")
    process = flow.watch("--once")
    until(lambda: len(flow.in_order("run")) == 2, lambda: f"both run: {flow.said}")
    flow.go()
    assert flow.ended(process) == 0, flow.said
    assert "its setup failed on n2: OSError: read-only file system" in flow.said
    assert sorted(flow.in_order("setup")) == ["setup n1", "setup n2", "setup n3"]
    flow.check("a", "b")


def test_file_whose_job_is_cancelled_again_and_again_is_done(flow, slurm):
    flow.environment["TIGERFLOW_WORKER_ATTEMPTS"] = "1"
    flow.serve()
    flow.add_inputs("wait")
    process = flow.watch("--once")
    for times in (1, 2):
        job, _ = flow.until_running("wait", times)
        slurm.call("scancel", job)
    flow.until_running("wait", 3)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    assert "its job is cancelled, preempted or requeued" in flow.said
    flow.check("wait")


def test_node_without_the_shared_directory_is_avoided(flow, slurm):
    # Each worker has a whole node.
    flow.serve(max_workers=4, resources={"cpus": 16})
    stems = [f"wait{number}" for number in range(4)]
    flow.add_inputs(*stems)
    with slurm.hidden("n4", flow.root):
        process = flow.watch("--once")
        until(lambda: len(flow.in_order("run")) == 3, lambda: f"three run: {flow.said}")
        flow.until_said("its worker could not start on n4: ")
        flow.go()
        assert flow.ended(process) == 0, flow.said
    assert "its node cannot open the output directory" in flow.said
    assert {node for _, node, _ in flow.setups()} == {"n1", "n2", "n3"}
    flow.check(*stems)


def test_job_is_cancelled_while_it_waits(flow, slurm):
    flow.serve()
    flow.add_inputs("a")
    with full_nodes(slurm) as others:
        process = flow.watch("--once")
        until(lambda: len(slurm.jobs()) == others + 1, "its job is pending")
        flow.until_said("-> PENDING")
        slurm.call("scancel", "--state=PENDING", "--user=root")
        flow.until_said("CANCELLED")
    assert flow.ended(process) == 0, flow.said
    flow.check("a")


def replace_sbatch(flow, script):
    """Have the service find another sbatch; `$SBATCH` is Slurm's own."""
    bin_ = flow.root / "bin"
    bin_.mkdir()
    path = bin_ / "sbatch"
    path.write_text(f"#!/bin/sh\nSBATCH={shutil.which('sbatch')}\n{script}\n")
    path.chmod(0o755)
    before = flow.environment.get("PATH", os.environ["PATH"])
    flow.environment["PATH"] = f"{bin_}{os.pathsep}{before}"


def test_job_that_slurm_took_although_sbatch_timed_out_is_not_lost(flow, slurm):
    replace_sbatch(
        flow,
        f"""if mkdir {flow.root}/once 2>/dev/null; then
    $SBATCH "$@" >/dev/null
    echo "sbatch: error: Socket timed out on send/recv operation" >&2
    exit 1
fi
exec $SBATCH "$@\"""",
    )
    flow.serve(max_workers=2)
    flow.add_inputs("wait1", "wait2")
    process = flow.watch()
    flow.until_running("wait1")
    flow.until_running("wait2")
    assert len(slurm.jobs()) == 2
    assert "sbatch failed, but Slurm accepted job" in flow.said
    flow.go()
    flow.until("work/wait1.out", "work/wait2.out")
    assert flow.stop(process) == 130
    assert slurm.jobs() == []
    flow.check("wait1", "wait2")


def test_job_that_slurm_took_just_before_the_service_was_killed_is_cancelled(
    flow, slurm
):
    # The first sbatch never says that Slurm has taken the job.
    replace_sbatch(
        flow,
        f"""if mkdir {flow.root}/once 2>/dev/null; then
    $SBATCH "$@" >/dev/null
    exec sleep 1000
fi
exec $SBATCH "$@\"""",
    )
    flow.serve()
    flow.add_inputs("a")
    with full_nodes(slurm):
        others = slurm.jobs()
        process = flow.watch()
        until(lambda: len(slurm.jobs()) > len(others), "its job is pending")
        unknown = slurm.jobs()[-1]
        flow.lose(process)
        process = flow.watch("--once")
        until(lambda: unknown not in slurm.jobs(), "the first is cancelled")
    assert flow.ended(process) == 0, flow.said
    flow.check("a")


def test_number_of_a_job_is_found_beside_a_banner(flow):
    replace_sbatch(flow, 'echo "Welcome to cluster 2024: 12 nodes"; exec $SBATCH "$@"')
    flow.serve()
    flow.add_inputs("a")
    assert flow.finish() == 0, flow.said
    assert "sbatch has failed" not in flow.said
    flow.check("a")


def test_setup_takes_too_long(flow):
    flow.environment["TIGERFLOW_SLURM_TASK_WORKER_STARTUP_TIMEOUT"] = "3"
    code = """
class Work(SlurmTask):
    def setup(context):
        note("setup")
        time.sleep(1000)
    def run(context, input_file, output_file): pass
"""
    _write_branches(flow, code)
    _check_stopped(flow, "its setup took longer than 3 s")
    assert flow.in_order("setup") == ["setup"]


def test_setup_command_fails(flow):
    commands = [f"echo again >> {flow.root}/commands", "ls /no/such/directory"]
    _write_branches(flow, WORK, setup_commands=commands)
    _check_stopped(
        flow,
        "its setup command failed: ls /no/such/directory (exit code 2); last output: "
        "ls: cannot access '/no/such/directory': No such file or directory",
    )
    assert lines(flow.root / "commands") == ["again"]
    assert "cannot access '/no/such/directory'" in flow.worker_logs


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--partition=nosuch", "Invalid partition name specified"),
        ("--account=nosuch", "account nosuch appears to be invalid"),
    ],
)
def test_scheduler_rejects_the_job(flow, option, words):
    _write_branches(flow, WORK, resources={"sbatch_options": [option]})
    _check_stopped(flow, "its worker could not start: ", words)
    assert "before it was ready" not in flow.said


def test_slurmctld_restarts_while_workers_run(flow, slurm):
    flow.serve(max_workers=2)
    flow.add_inputs("wait1", "wait2")
    process = flow.watch()
    flow.until_running("wait1")
    flow.until_running("wait2")
    slurm.restart_slurmctld()
    flow.go()
    flow.until("work/wait1.out", "work/wait2.out")
    flow.add_inputs("later")
    flow.until("work/later.out")
    assert len(flow.in_order("setup")) == 2
    assert flow.stop(process) == 130
    flow.check("wait1", "wait2", "later")


def test_worker_is_submitted_once_slurmctld_is_back(flow, slurm):
    slurm.stop_slurmctld()
    flow.serve()
    flow.add_inputs("a")
    process = flow.watch("--once")
    flow.until_said("cannot submit workers now")
    slurm.start_slurmctld()
    assert flow.ended(process) == 0, flow.said
    flow.check("a")


def test_slurmdbd_is_down(flow, slurm):
    slurm.stop_slurmdbd()
    flow.serve(max_workers=2)
    flow.add_inputs("a", "wait")
    process = flow.watch("--once")
    job, _ = flow.until_running("wait")
    slurm.call("scancel", job)
    flow.until_running("wait", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("a", "wait")


def test_service_is_killed_and_started_again_while_workers_run(flow):
    flow.serve(max_workers=3)
    flow.add_inputs("wait1", "wait2", "second")
    process = flow.watch()
    flow.until_running("wait1")
    flow.until_running("wait2")
    process.kill()
    process.wait()
    process = flow.watch("--once")
    flow.until_running("wait1", 2)
    flow.until_running("wait2", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("second", "wait1", "wait2")


def test_service_is_killed_again_and_again(flow):
    flow.serve(max_workers=2)
    stems = [f"second{number:02}" for number in range(12)]
    flow.add_inputs(*stems)

    def kill_when(condition, what):
        process = flow.watch()
        until(condition, lambda: f"{what}: {flow.said}")
        process.kill()
        process.wait()

    for words in ("Starting pipeline execution", "Submitted task", "-> ACTIVE"):
        before = flow.said.count(words)
        kill_when(lambda w=words, b=before: flow.said.count(w) > b, words)
    for count in (1, 4, 8):
        kill_when(
            lambda c=count: len([*(flow.out / "work").glob("*.out")]) >= c,
            f"{count} files are done",
        )
    assert flow.finish() == 0, flow.said
    flow.check(*stems)


def test_all_of_the_service_is_killed_and_started_again(flow):
    flow.serve(max_workers=2)
    flow.add_inputs("wait1", "wait2")
    process = flow.watch()
    flow.until_running("wait1")
    flow.until_running("wait2")
    flow.lose(process)
    process = flow.watch("--once")
    flow.until_running("wait1", 2)
    flow.until_running("wait2", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("wait1", "wait2")


def test_mailboxes_of_a_killed_service_go_with_its_jobs(flow, slurm):
    flow.serve()
    flow.add_inputs("wait")
    process = flow.watch()
    flow.until_running("wait")
    process.kill()
    process.wait()
    # Another user could not enter them.
    until(lambda: not (flow.out / ".tigerflow" / "mailboxes").exists(), "they are gone")
    assert slurm.jobs() == []
    flow.go()
    assert flow.finish() == 0, flow.said
    flow.check("wait")


def test_service_is_gone_for_good(flow, slurm):
    flow.environment["TIGERFLOW_WORKER_LOST_TIMEOUT"] = "4"
    flow.serve(max_workers=2)
    flow.add_inputs("wait1", "wait2")
    process = flow.watch()
    flow.until_running("wait1")
    flow.until_running("wait2")
    flow.lose(process)
    until(lambda: not slurm.jobs(), "the workers have left")
    assert flow.in_order("teardown") == ["teardown"] * 2
    assert flow.names("work") == []
    flow.go()
    assert flow.finish() == 0, flow.said
    flow.check("wait1", "wait2")


def test_service_is_lost_and_started_again_while_a_worker_cannot_be_cancelled(
    flow, slurm
):
    # By itself, it would stay for longer than all this takes.
    flow.environment["TIGERFLOW_WORKER_LOST_TIMEOUT"] = "60"
    flow.serve()
    flow.add_inputs("wait")
    process = flow.watch()
    job, _ = flow.until_running("wait")
    slurm.stop_slurmd(flow.node_of(job))
    flow.lose(process)
    process = flow.watch("--once")
    flow.until_running("wait", 2)
    flow.go()
    assert flow.ended(process) == 0, flow.said
    flow.check("wait")


#: Waits where it is told to, for ever.
HANGING = """
class Work(SlurmTask):
    def setup(context):
        note("setup")
        if os.environ.get("HANGS") == "setup": time.sleep(1000)
    def run(context, input_file, output_file):
        if os.environ.get("HANGS"):
            note("run")
            time.sleep(1000)
    def teardown(context):
        note("teardown")
        if os.environ.get("HANGS") == "teardown": time.sleep(1000)

if os.environ.get("HANGS") == "import" and "SLURM_JOB_ID" in os.environ:
    note("import")
    time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("what", "until_noted"),
    [
        ("setup", "setup"),
        ("teardown", "run"),
        ("setup command", "command"),
        ("import", "import"),
    ],
)
def test_worker_that_hangs_does_not_outlive_its_service_for_long(
    flow, slurm, what, until_noted
):
    flow.environment |= {"TIGERFLOW_WORKER_LOST_TIMEOUT": "4", "HANGS": what}
    flow.environment |= {"TIGERFLOW_WORKER_GRACE": "2"}
    command = (
        f"echo command >> {flow.notes}; [ \"$HANGS\" != 'setup command' ] || sleep 1000"
    )
    flow.serve(HANGING, setup_commands=[command])
    flow.add_inputs("a")
    process = flow.watch()
    until(lambda: flow.in_order(until_noted), lambda: f"it hangs: {flow.said}")
    flow.lose(process)
    until(lambda: not slurm.jobs(), "the workers have left")
    del flow.environment["HANGS"]
    assert flow.finish() == 0, flow.said
    flow.check("a")


def test_jobs_that_wait_when_the_service_is_gone_end_when_they_begin(flow, slurm):
    flow.environment["TIGERFLOW_WORKER_LOST_TIMEOUT"] = "4"
    flow.serve(max_workers=2)
    flow.add_inputs("a", "b")
    with full_nodes(slurm) as others:
        process = flow.watch()
        until(lambda: len(slurm.jobs()) == others + 2, "two jobs are pending")
        flow.lose(process)
    until(lambda: not slurm.jobs(), "both have gone")
    assert flow.in_order("run") == []
    assert flow.finish() == 0, flow.said
    flow.check("a", "b")
