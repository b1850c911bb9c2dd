"""A compiled workflow on a cluster, run by Snakemake itself, in both ways."""

import os
import signal

import pytest
from runs import finish
from services import NOTHING_TO_DO, kill
from slurm_flows import ALONE, RESOURCES, WORK, SlurmFlow, full_nodes, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

#: A Slurm task between others; a file that is called bad fails in it.
PIPELINE = (
    ALONE
    + """
class Head(LocalTask):
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text())


class Work(SlurmTask):
    def setup(context):
        note(f"setup {os.environ['SLURM_JOB_ID']} {os.getpid()} {os.uname().nodename}")
    def run(context, input_file, output_file):
        with alone(input_file):
            note(f"run {input_file.stem}")
            if input_file.stem == "bad":
                raise ValueError("this one is bad")
            output_file.write_text(input_file.read_text().upper())
    def teardown(context):
        # It takes a while.
        time.sleep(1)
        note(f"teardown {os.environ['SLURM_JOB_ID']} {os.getpid()}")


class Tail(LocalAsyncTask):
    async def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text() + "!")
"""
)

HEAD = {"name": "head", "module": "tasks.py:Head"}
TAIL = {
    "name": "tail",
    "kind": "local_async",
    "module": "tasks.py:Tail",
    "depends_on": "work",
    "input_ext": ".out",
    "concurrency_limit": 4,
}

#: Each job of plain Snakemake runs Snakemake twice, beside the worker.
ROOM = RESOURCES | {"memory": "600M"}


class Flow(SlurmFlow):
    """A compiled workflow on a cluster."""

    def snakemake(self, *options, **how):
        """Run Snakemake to its end; return its exit code and what it said."""
        return self.end(self.start(*options, **how))

    def start(self, *options, profile="tigerflow", cores=None):
        return super().start(*options, profile=profile, cores=cores)

    @staticmethod
    def end(process):
        return finish(process, 180)

    def compile_all(self, **task):
        """Compile a pipeline of three tasks."""
        self.add_module(PIPELINE)
        work = self.task(depends_on="head", input_ext=".out", **task)
        self.compile(HEAD, work, TAIL)

    def compile_work(self, **task):
        """Compile a pipeline of the one task whose files may wait."""
        self.add_module(WORK)
        self.compile(self.task(**task))

    def until_quiet(self):
        until(
            lambda: not self.leftovers(),
            lambda: f"left: {self.leftovers()} {self.host_log}",
        )

    @property
    def host_log(self):
        log = self.out / ".tigerflow" / "logs" / "host.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def flow(world, slurm):
    made = Flow(world, slurm)
    with made.count:
        yield made


def check_all_but_bad(flow, code, said):
    """Check the results of the pipeline of three tasks, one file of which is bad."""
    assert code == 1, said
    assert flow.names("tail") == ["a.out", "b.out"], said
    assert (flow.out / "tail" / "a.out").read_text() == "A!"
    assert flow.names("work") == ["a.out", "b.out", "bad.err"]
    record = flow.record("bad")
    assert record["message"] == "this one is bad"
    assert "in run" in record["traceback"]
    assert flow.in_order("VIOLATION") == []
    # Each worker's teardown was done before its job, and the run, was over.
    begun = [line.split()[1:3] for line in flow.in_order("setup")]
    ended = [line.split()[1:3] for line in flow.in_order("teardown")]
    assert sorted(begun) == sorted(ended)
    assert flow.slurm.jobs() == []
    (flow.inputs / "bad.txt").unlink()
    assert NOTHING_TO_DO in flow.snakemake("--dry-run")[1]
    flow.until_quiet()


# Through the Slurm plugin, a job a file


def test_slurm_plugin_runs_a_job_for_each_file(flow):
    flow.compile_all(max_workers=3, resources=ROOM)
    flow.add_inputs("a", "b", "bad")
    code, said = flow.snakemake(profile="slurm")
    setups = [line.split() for line in flow.in_order("setup")]
    assert len({job for _, job, *_ in setups}) == len(setups) == 3
    assert all(node in flow.slurm.nodes for *_, node in setups)
    check_all_but_bad(flow, code, said)


def test_slurm_plugin_runs_a_job_for_a_group_of_files_with_one_setup(flow):
    flow.compile_all(max_workers=3, resources=ROOM)
    flow.add_inputs("a", "b", "c")
    grouped = ("--groups", "work=g", "--group-components", "g=3")
    code, said = flow.snakemake(*grouped, profile="slurm")
    assert code == 0, said
    assert len(flow.in_order("run")) == 3
    assert len(flow.in_order("setup")) == len(flow.in_order("teardown")) == 1
    flow.until_quiet()


def test_slurm_plugin_notices_a_job_that_is_cancelled_while_it_waits(flow):
    flow.compile_work(resources=ROOM)
    flow.add_inputs("a")
    with full_nodes(flow.slurm) as others:
        process = flow.start("--retries=0", profile="slurm")
        until(lambda: len(flow.slurm.jobs()) == others + 1, "its job waits")
        flow.slurm.call("scancel", "--state=PENDING", "--user=root")
        code, said = flow.end(process)
    assert code == 1, said
    assert "SLURM status is: 'CANCELLED'" in said
    flow.until_quiet()


def test_no_shell_reads_the_names_of_files(flow):
    flow.compile_all(max_workers=3, resources=ROOM)
    names = ["$(touch here)", "it's; & é", '-a "b" c']
    flow.add_inputs(*names)
    code, said = flow.snakemake(profile="slurm")
    assert code == 0, said
    assert flow.names("tail") == sorted(f"{name}.out" for name in names)
    assert list(flow.root.rglob("here")) == []
    flow.until_quiet()


def test_slurm_plugin_is_interrupted_under_a_file(flow):
    flow.compile_work(resources=ROOM)
    flow.add_inputs("wait")
    process = flow.start(profile="slurm")
    flow.until_running("wait")
    os.killpg(process.pid, signal.SIGINT)
    code, said = flow.end(process)
    assert code != 0, said
    flow.until_quiet()
    assert flow.in_order("teardown") == ["teardown"]
    assert flow.names("work") == []


# Through our executor, on workers that stay


def test_our_executor_submits_workers_for_many_files(flow):
    flow.compile_all(max_workers=2)
    flow.add_inputs("a", "b", "bad")
    code, said = flow.snakemake()
    assert len(flow.count.most) <= 2
    setups = [line.split() for line in flow.in_order("setup")]
    assert 1 <= len(setups) <= 2
    assert all(node in flow.slurm.nodes for *_, node in setups)
    assert "this one is bad" in said
    check_all_but_bad(flow, code, said)


def test_never_more_workers_than_the_task_may_have(flow):
    flow.compile_work(max_workers=2)
    stems = [f"wait{number}" for number in range(6)]
    flow.add_inputs(*stems)
    process = flow.start()
    until(lambda: len(flow.in_order("run")) == 2, "all workers are busy")
    flow.count.look()
    flow.go()
    code, said = flow.end(process)
    assert code == 0, said
    assert len(flow.count.most) == 2
    flow.check(*stems)


def test_our_executor_submits_workers_also_without_its_profile(flow):
    flow.compile_work()
    flow.add_inputs("a")
    code, said = flow.snakemake("--executor", "tigerflow", profile="local", cores=1)
    assert code == 0, said
    assert "Submitted task with Slurm job ID" in flow.host_log
    flow.check("a")


@pytest.mark.parametrize("how", ["interrupted", "killed", "killed with its host"])
def test_jobs_end_with_snakemake(flow, world, how):
    flow.compile_work(max_workers=2)
    flow.add_inputs("wait")
    process = flow.start()
    flow.until_running("wait")
    if how == "interrupted":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    if how == "killed with its host":
        for pid in world.processes("tigerflow.engine.hosting"):
            kill(pid)
    code, said = flow.end(process)
    assert code != 0, said
    until(lambda: not flow.slurm.jobs(), flow.host_log)
    until(lambda: not world.processes(), flow.host_log)
    assert flow.in_order("teardown") == ["teardown"]
    assert flow.names("work") == []
    flow.go()
    code, said = flow.snakemake("--unlock")
    code, said = flow.snakemake()
    assert code == 0, said
    flow.check("wait")


def test_file_goes_to_a_fresh_worker_when_its_job_is_cancelled(flow, slurm):
    flow.compile_work()
    flow.add_inputs("wait")
    process = flow.start()
    job, _ = flow.until_running("wait")
    slurm.call("scancel", job)
    flow.until_running("wait", times=2)
    flow.go()
    code, said = flow.end(process)
    assert code == 0, said
    flow.check("wait")


def test_rejected_job_is_reported_in_the_schedulers_words(flow):
    option = "--partition=nosuch"
    flow.compile_work(resources={"sbatch_options": [option]})
    flow.add_inputs("a", "b")
    code, said = flow.snakemake()
    assert code == 1
    assert "its worker could not start: " in said
    assert "Invalid partition name specified" in said
    flow.check()


def test_workers_are_processes_inside_a_job(flow):
    flow.compile_work()
    flow.add_inputs("a")
    flow.environment["SLURM_JOB_ID"] = "12345"
    code, said = flow.snakemake()
    assert code == 0, said
    assert flow.runs("a")[0][0] == "12345"
    # No job, and one process that takes this for its own.
    assert "Submitted" not in flow.host_log
    flow.check("a")
