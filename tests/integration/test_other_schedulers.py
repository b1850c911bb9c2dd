"""Workers as jobs through another plugin, which knows a scheduler by its commands."""

import signal

import pytest
from slurm_flows import QueueWatch, SlurmFlow, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

PROFILE = """
executor: cluster-generic
cluster-generic-submit-cmd: >-
  sbatch --parsable --partition={partition} --cpus-per-task={{threads}}
  --mem={{resources.mem_mb}} --time={{resources.runtime}} --output=/dev/null
cluster-generic-cancel-cmd: scancel
jobs: 1000
keep-going: true
scheduler: greedy
latency-wait: 30
"""


class Flow(SlurmFlow):
    """A pipeline whose workers another plugin submits."""

    def write_profile(self, partition="main"):
        profile = self.root / "profile"
        profile.mkdir()
        (profile / "profile.yaml").write_text(PROFILE.format(partition=partition))
        return f"--workers-profile={profile}"

    def until_quiet(self):
        until(lambda: not self.leftovers(), f"left: {self.leftovers()} {self.said}")


@pytest.fixture
def flow(world, slurm):
    return Flow(world, slurm)


def test_service_has_its_workers_in_jobs_of_another_plugin(flow, slurm):
    flow.serve(max_workers=2)
    stems = [f"f{number}" for number in range(20)]
    flow.add_inputs(*stems)
    with QueueWatch(slurm) as queue:
        code = flow.finish(flow.write_profile())
    assert code == 0, flow.said
    assert 1 <= queue.most <= 2
    assert all(node in flow.slurm.nodes for _, node, _ in flow.setups())
    assert len(flow.in_order("teardown")) == len(flow.in_order("setup")) <= 2
    flow.check(*stems)


def test_end_of_an_idle_worker_is_seen_and_another_comes(flow, slurm):
    flow.environment["TIGERFLOW_WORKER_IDLE_TIMEOUT"] = "1"
    flow.serve()
    process = flow.watch(flow.write_profile())
    for number in range(2):
        flow.add_inputs(f"f{number}")
        flow.until(f"work/f{number}.out")
        until(lambda: not slurm.jobs(), "the job has ended")
        # Its Snakemake as well: it has heard of that.
        until(lambda: not flow.mailboxes(), "it is forgotten")
    assert flow.stop(process) == 130
    flow.check("f0", "f1")


def test_service_is_interrupted_while_jobs_run_and_wait(flow, slurm):
    flow.serve(max_workers=2)
    flow.add_inputs("wait")
    process = flow.watch(flow.write_profile())
    flow.until_running("wait")
    process.send_signal(signal.SIGINT)
    flow.until_said("Received signal")
    flow.go()
    assert flow.ended(process) == 130
    assert slurm.jobs() == []
    flow.check("wait")


def test_rejected_job_is_told_in_the_schedulers_words(flow):
    flow.serve()
    flow.add_inputs("a")
    assert flow.finish(flow.write_profile("nosuch")) == 1
    assert "its worker could not start: invalid partition specified: nosuch" in (
        flow.said
    )
    assert "Invalid partition name specified" in flow.said
    flow.check()
