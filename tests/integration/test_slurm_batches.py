"""Batches for workers that are Slurm jobs."""

import json

import pytest
from runs import finish
from single_task import slurm_task
from slurm_flows import SLURM_DEADLINE_S, SlurmFlow

from tigerflow.rundir.events import FileDone

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

#: Notes the files of each call; one raises on `bad`, and ends its worker on `kill`.
BATCHES = """
class Work(SlurmTask):
    batch_size = 6

    def setup(context): note("setup")
    def run_batch(context, pairs):
        stems = [source.stem for source, _ in pairs]
        note("call " + " ".join(stems))
        for source, output in pairs:
            output.write_text("half")
            if source.stem == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if source.stem == "bad":
                raise ValueError("this one")
            output.write_text(source.read_text())
    def teardown(context): note("teardown")
"""


def call_sizes(lines):
    return sorted((len(line.split()) - 1 for line in lines), reverse=True)


def test_workers_in_jobs_get_batches_in_which_only_the_guilty_fail(world, slurm):
    flow = SlurmFlow(world, slurm)
    flow.serve(BATCHES)
    stems = [f"f{number:02}" for number in range(14)]
    flow.add_inputs(*stems, "bad", "kill")
    assert flow.finish() == 1, flow.said
    results = sorted([*(f"{stem}.out" for stem in stems), "bad.err", "kill.err"])
    assert flow.names("work") == results
    assert flow.record("bad")["exception_type"] == "ValueError"
    assert flow.record("kill")["exception_type"] == "WorkerDied"
    assert "killed by signal 9 (SIGKILL)" in flow.record("kill")["message"]
    assert " files one by one" in flow.said
    assert call_sizes(flow.in_order("call"))[0] == 6
    assert len(flow.events(FileDone)) == len(stems)


@pytest.mark.parametrize(("profile", "most"), [("tigerflow", 6), ("slurm", 1)])
def test_snakemake_has_batches_where_its_workers_stay(world, slurm, profile, most):
    flow = SlurmFlow(world, slurm)
    flow.add_module(BATCHES)
    # Each job of plain Snakemake runs Snakemake twice, beside the worker.
    flow.compile(flow.task(resources={"memory": "600M"}))
    count = 14 if profile == "tigerflow" else 2
    stems = [f"f{number:02}" for number in range(count)]
    flow.add_inputs(*stems)
    process = flow.start(profile=profile, cores=None)
    code, said = finish(process, 2 * SLURM_DEADLINE_S)
    assert code == 0, said
    assert flow.names("work") == [f"{stem}.out" for stem in stems]
    assert call_sizes(flow.in_order("call"))[0] == most


def test_slurm_task_by_itself_has_the_option(bench, slurm):
    bench.environment |= slurm.variables
    code = slurm_task(run="pass").replace(
        "def run(context, input_file, output_file):\n        pass",
        "def run_batch(context, pairs):\n"
        "        for source, output in pairs:\n"
        "            output.write_text(str(len(pairs)))",
    )
    assert "run_batch" in code
    bench.give(**{f"f{number}": "text" for number in range(8)})
    resources = {"cpus": "1", "memory": "100M", "time": "10", "max_workers": "1"}
    service = bench.start(code, "--once", **resources, batch_size="4")
    assert service.process.wait(SLURM_DEADLINE_S) == 0, service.log
    outputs = [path.read_text() for path in bench.outputs.glob("*.out")]
    assert len(outputs) == 8
    assert max(map(int, outputs)) == 4
    metrics = [line for line in service.log.splitlines() if "METRICS" in line]
    files = {json.loads(line[line.index("{") :])["file"] for line in metrics}
    assert files == {f"f{number}.txt" for number in range(8)}
