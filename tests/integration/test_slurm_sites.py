"""What clusters have of their own: limits, defaults, environments, other ways in."""

import re
import shutil
import sys

import pytest
from flows import SNAKEMAKE
from runs import finish
from slurm.configuration import CPUS_A_NODE
from slurm_flows import RESOURCES, WORK, SlurmFlow, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

#: Each job of plain Snakemake runs Snakemake twice, beside the worker.
ROOM = RESOURCES | {"memory": "600M"}

#: Notes what a setup command has loaded, and the partition that its job is in.
LOADS = """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        partition = os.environ['SLURM_JOB_PARTITION']
        note(f"loaded {os.environ.get('LOADED')} in {partition}")
        output_file.write_text("done")
"""

#: A function as bash exports it, the way sites define `module`.
MODULE = {"BASH_FUNC_module%%": "() {  export LOADED=$2\n}"}


@pytest.fixture
def flow(world, slurm):
    made = SlurmFlow(world, slurm)
    with made.count:
        yield made


def check(flow):
    """Run `tigerflow check`; return the exit code."""
    return flow.ended(flow.command("check", flow.pipeline))


def stopped(flow):
    return re.search(r"\[work\] stopped: .*", flow.said)[0]


# Limits


def test_job_that_a_qos_never_takes_is_refused_by_check_and_at_the_start(flow, slurm):
    options = ["--qos=short"]
    flow.serve(resources={"time": "10", "sbatch_options": options})
    flow.add_inputs("a")
    with slurm.qos("short", "MaxWall=5", "Flags=DenyOnLimit"):
        assert check(flow) == 2
        limit = "QOSMaxWallDurationPerJobLimit"
        assert f"its jobs would be refused: {limit}" in flow.said
        assert flow.finish() == 1
        assert f"its worker could not start: {limit}" in stopped(flow)
    assert "retrying" not in flow.said


def test_task_stops_when_slurm_takes_its_job_but_never_starts_it(flow, slurm):
    options = ["--qos=short"]
    flow.serve(resources={"time": "10", "sbatch_options": options})
    flow.add_inputs("a")
    with slurm.qos("short", "MaxWall=5"):
        assert flow.finish() == 1
    never = "Slurm will never start its job: QOSMaxWallDurationPerJobLimit"
    assert f"its worker could not start: {never}" in stopped(flow)
    until(lambda: not flow.leftovers(), "no job is left")


def test_limit_on_the_number_of_jobs_is_waited_for(flow, slurm):
    options = ["--qos=single"]
    flow.serve(resources={"sbatch_options": options})
    flow.add_inputs("a")
    with slurm.qos("single", "MaxSubmitJobsPerUser=1"):
        other = slurm.submit(*options, "--output=/dev/null", command="sleep 1000")
        process = flow.watch("--once")
        flow.until_said("cannot submit workers now: QOSMaxSubmitJob")
        slurm.call("scancel", other)
        assert flow.ended(process) == 0, flow.said
        flow.check("a")


def test_worker_has_a_whole_node(flow):
    flow.serve(
        """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        words = ("SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE")
        note(f"has {[os.environ.get(word) for word in words]}")
        output_file.write_text("done")
""",
        resources={"memory": "0", "sbatch_options": ["--exclusive"]},
    )
    flow.add_inputs("a")
    assert flow.finish() == 0, flow.said
    # Slurm sets no amount for all memory.
    assert flow.in_order("has") == [f"has {[str(CPUS_A_NODE), None]}"]


#: Stands before Slurm's own: the cluster seems to have no arrays of jobs.
SCONTROL = """\
#!/bin/sh
{scontrol} "$@" | sed "s/^MaxArraySize .*/MaxArraySize = 0/"
"""


@pytest.fixture
def without_arrays(flow):
    """A flow on a cluster that has no arrays of jobs."""
    programs = flow.root / "programs"
    programs.mkdir()
    path = flow.environment["PATH"]
    real = shutil.which("scontrol", path=path)
    (programs / "scontrol").write_text(SCONTROL.format(scontrol=real))
    (programs / "scontrol").chmod(0o755)
    flow.environment["PATH"] = f"{programs}:{path}"
    return flow


def test_service_needs_no_arrays_of_jobs(without_arrays):
    without_arrays.serve()
    without_arrays.add_inputs("a")
    assert without_arrays.finish() == 0, without_arrays.said
    without_arrays.check("a")


def test_plain_snakemake_needs_no_arrays_of_jobs(without_arrays):
    without_arrays.add_module(WORK)
    without_arrays.compile(without_arrays.task(resources=ROOM))
    without_arrays.add_inputs("a")
    process = without_arrays.start(profile="slurm", cores=None)
    code, said = finish(process, 180)
    assert code == 0, said
    assert without_arrays.names("work") == ["a.out"]


# The environment


def test_setup_commands_have_the_functions_that_bash_exports(world, slurm):
    flow = SlurmFlow(world, slurm, **MODULE)
    flow.serve(LOADS, setup_commands=["module load tool/1.0"])
    flow.add_inputs("a")
    assert check(flow) == 0, flow.said
    assert flow.finish() == 0, flow.said
    assert flow.in_order("loaded") == ["loaded tool/1.0 in main"]


def test_workers_of_plain_snakemake_have_the_functions_that_bash_exports(world, slurm):
    flow = SlurmFlow(world, slurm, **MODULE)
    flow.add_module(LOADS)
    flow.compile(flow.task(resources=ROOM, setup_commands=["module load tool/1.0"]))
    flow.add_inputs("a")
    code, said = finish(flow.start(profile="slurm", cores=None), 180)
    assert code == 0, said
    assert flow.in_order("loaded") == ["loaded tool/1.0 in main"]


def test_plain_snakemake_takes_the_partition_of_the_environment(world, slurm):
    flow = SlurmFlow(world, slurm, SBATCH_PARTITION="nosuch")
    flow.add_module(LOADS)
    flow.compile(flow.task())
    flow.add_inputs("a")
    code, said = finish(flow.start(profile="slurm", cores=None), 180)
    assert code == 1, said
    assert "invalid partition specified: nosuch" in said


@pytest.mark.parametrize(
    ("options", "partition"), [([], "tiny"), (["--partition=main"], "main")]
)
def test_partition_of_the_environment_is_that_of_jobs_without_one(
    world, slurm, options, partition
):
    flow = SlurmFlow(
        world, slurm, SBATCH_PARTITION="tiny", TIGERFLOW_WORKER_WALL_TIME_GRACE="10"
    )
    flow.serve(LOADS, resources={"time": "1", "sbatch_options": options})
    flow.add_inputs("a")
    assert flow.finish() == 0, flow.said
    assert flow.in_order("loaded") == [f"loaded None in {partition}"]


def test_options_of_the_environment_that_workers_cannot_have_are_dropped(world, slurm):
    unwanted = {"SBATCH_ARRAY_INX": "1-3", "SBATCH_SIGNAL": "B:KILL@590"}
    flow = SlurmFlow(world, slurm, **unwanted)
    flow.serve(WORK)
    flow.add_inputs("a")
    with flow.count:
        assert flow.finish() == 0, flow.said
    assert "SBATCH_ARRAY_INX has no effect on workers; unset it" in flow.jobs_log
    flow.check("a")


# Inside an allocation, where only a variable says where Slurm's configuration is

SALLOC = ("salloc", "--ntasks=1", "--mem=100", "--time=10")


def test_service_submits_workers_in_an_allocation(flow):
    flow.serve()
    flow.add_inputs("a")
    watch = ("watch", "--once", flow.pipeline, flow.inputs, flow.out)
    process = flow.launch(*SALLOC, sys.executable, "-m", "tigerflow", *watch)
    assert flow.ended(process) == 0, flow.said
    assert flow.names("work") == ["a.out"]


def test_plain_snakemake_submits_jobs_in_an_allocation(flow):
    flow.add_module(WORK)
    flow.compile(flow.task(resources=ROOM))
    flow.add_inputs("a")
    workflow = flow.out / ".tigerflow" / "workflow"
    words = ("-s", workflow / "Snakefile", "--profile", workflow / "profiles" / "slurm")
    assert flow.ended(flow.launch(*SALLOC, SNAKEMAKE, *words)) == 0, flow.said
    assert flow.names("work") == ["a.out"]
