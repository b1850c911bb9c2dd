"""Workers as jobs through another plugin, which knows a scheduler by its commands."""

import signal

import pytest
from runs import finish
from slurm_flows import WORK, SlurmFlow, generic_profile, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]


class Flow(SlurmFlow):
    """A pipeline whose workers another plugin submits."""

    def write_profile(self, partition="main"):
        return f"--workers-profile={generic_profile(self.root, partition)}"

    def until_quiet(self):
        until(
            lambda: not self.leftovers(),
            lambda: f"left: {self.leftovers()} {self.said}",
        )


@pytest.fixture
def flow(world, slurm):
    made = Flow(world, slurm)
    with made.count:
        yield made


def test_service_has_its_workers_in_jobs_of_another_plugin(flow):
    flow.serve(max_workers=2)
    stems = [f"f{number}" for number in range(20)]
    flow.add_inputs(*stems)
    assert flow.finish(flow.write_profile()) == 0, flow.said
    assert 1 <= len(flow.count.most) <= 2
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


def test_rejected_job_is_reported_in_the_schedulers_words(flow):
    flow.serve()
    flow.add_inputs("a")
    assert flow.finish(flow.write_profile("nosuch")) == 1
    assert "its worker could not start: invalid partition specified: nosuch" in (
        flow.said
    )
    assert "Invalid partition name specified" in flow.said
    flow.check()


def test_our_executor_has_its_workers_in_jobs_of_another_plugin(flow, slurm):
    flow.add_module(WORK)
    flow.compile(flow.task())
    flow.add_inputs("a", "b")
    profile = generic_profile(flow.root)
    # Also inside a job, when a profile says how.
    flow.environment["SLURM_JOB_ID"] = "12345"
    options = ("--executor=tigerflow", f"--tigerflow-workers-profile={profile.name}")
    code, said = finish(flow.start(*options), 90)
    assert code == 0, said
    assert {node for _, node, _ in flow.setups()} <= set(slurm.nodes)
    flow.check("a", "b")


def test_profile_that_is_not_there_is_named(flow):
    flow.add_module(WORK)
    flow.compile(flow.task())
    options = ("--executor=tigerflow", "--tigerflow-workers-profile=nowhere")
    code, said = flow.snakemake(*options)
    assert code == 1
    assert f"{flow.root}/nowhere is no directory" in said
    assert "Traceback" not in said
