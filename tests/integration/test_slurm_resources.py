"""What a Slurm task asks for, as Slurm has it: in a pipeline file and by itself."""

import signal

import pytest
from single_task import Bench, slurm_task
from slurm_flows import SlurmFlow, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

#: For a long time to come, no job of these starts.
LATER = "--begin=now+1hour"

#: Everything that an option of sbatch can say of where a job goes.
PLACE = ["-A other", "-p main", "--qos=long", "-C fast", "--reservation=class"]

PLACED = {
    "Account": "other",
    "Partition": "main",
    "QOS": "long",
    "Features": "fast",
    "Reservation": "class",
}

#: Resources, and what Slurm calls them.
CASES = {
    "full": (
        {
            "cpus": 3,
            "memory": "1.5G",
            "time": "0-2:30",
            "gpus": "a100:2",
            "sbatch_options": [*PLACE, "--nice=7"],
        },
        {
            **PLACED,
            "CPUs/Task": "3",
            "MinMemoryNode": "1.50G",
            "TimeLimit": "02:30:00",
            "TresPerJob": "gres:gpu:a100:2",
            "Nice": "7",
        },
    ),
    "plain": (
        {"cpus": 2, "memory": "300", "time": "90:00", "gpus": 1},
        {
            "Account": "lab",
            "Partition": "main",
            "QOS": "normal",
            "Features": "(null)",
            "CPUs/Task": "2",
            "MinMemoryNode": "300M",
            "TimeLimit": "01:30:00",
            "TresPerJob": "gres:gpu:1",
        },
    ),
    "tiny": (
        {
            "cpus": 1,
            "memory": "2048K",
            "time": "0:30",
            "sbatch_options": ["--partition=tiny"],
        },
        {
            "Partition": "tiny",
            "CPUs/Task": "1",
            "MinMemoryNode": "2M",
            "TimeLimit": "00:01:00",
        },
    ),
}

CODE = """
class Work(SlurmTask):
    def run(context, input_file, output_file): pass
"""


def only(details, expected):
    return {name: details.get(name) for name in expected}


def test_resources_of_a_pipeline_reach_slurm(world, slurm):
    flow = SlurmFlow(world, slurm)
    flow.add_module(CODE)
    flow.write(*(_later(flow, name, given) for name, (given, _) in CASES.items()))
    flow.add_inputs("a")
    with slurm.reservation("class", "n1"):
        process = flow.watch()
        until(lambda: len(slurm.jobs()) == len(CASES), "all are there")
        found = [slurm.details(job) for job in slurm.jobs()]
        flow.stop(process)
    by_task = {each["Comment"].split("_")[1]: each for each in found}
    for name, (_, expected) in CASES.items():
        assert only(by_task[name], expected) == expected, by_task[name]


def _later(flow, name, given):
    options = [*given.get("sbatch_options", ()), LATER]
    return flow.task(name=name, resources=given | {"sbatch_options": options})


@pytest.mark.parametrize("name", CASES)
def test_resources_of_a_command_line_reach_slurm(tmp_path, slurm, name):
    given, expected = CASES[name]
    bench = Bench(tmp_path)
    bench.environment |= slurm.variables
    bench.give(a="text")
    options = [
        f"--{key}={value}" for key, value in given.items() if key != "sbatch_options"
    ]
    options += [f"--sbatch-option={each}" for each in given.get("sbatch_options", ())]
    with slurm.reservation("class", "n1"):
        service = bench.start(
            slurm_task(), "--max-workers=1", *options, f"--sbatch-option={LATER}"
        )
        until(slurm.jobs, "its job is there")
        [job] = slurm.jobs()
        found = slurm.details(job)
        service.process.send_signal(signal.SIGINT)
        service.end()
    bench.close()
    assert only(found, expected) == expected, found
    assert slurm.jobs() == []
