"""What a Slurm task asks for, as Slurm has it: in a pipeline file and by itself."""

import signal

import pytest
from single_task import Bench, slurm_task
from slurm_flows import SLURM_DEADLINE_S, SlurmFlow, until

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

#: For a long time to come, no job of these starts.
LATER = "--begin=now+1hour"

#: Less than the shortest time of all.
GRACE = {"TIGERFLOW_WORKER_WALL_TIME_GRACE": "10"}

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
            "TresPerJob": "gres/gpu:a100:2",
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
            "TresPerJob": "gres/gpu:1",
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
    "bycpu": (
        {"cpus": 2, "time": "10", "sbatch_options": ["--mem-per-cpu=300M"]},
        {"MinMemoryCPU": "300M", "CPUs/Task": "2"},
    ),
    "whole": (
        {"cpus": 1, "memory": "0", "time": "10", "sbatch_options": ["--exclusive"]},
        {"MinMemoryNode": "0", "OverSubscribe": "NO"},
    ),
    # The cluster says how much, by DefMemPerCPU.
    "unsaid": ({"cpus": 1, "time": "10"}, {"MinMemoryCPU": "100M"}),
}

#: What cannot be, and what Slurm says of it, or the plugin.
REFUSED = (
    ({"sbatch_options": ["-p nosuch"]}, "Invalid partition name specified"),
    ({"sbatch_options": ["-A nosuch"]}, "account nosuch appears to be invalid"),
    ({"sbatch_options": ["-q nosuch"]}, "Invalid qos specification"),
    ({"sbatch_options": ["-C nosuch"]}, "Invalid feature specification"),
    ({"sbatch_options": ["--reservation=x"]}, "Requested reservation is invalid"),
    ({"time": "2-0"}, "Requested time limit is invalid"),
    ({"memory": "1T"}, "Requested node configuration is not available"),
    ({"gpus": "h100:1"}, "Requested node configuration is not available"),
    ({"cpus": 99}, "More processors requested than permitted"),
)

CODE = """
class Work(SlurmTask):
    def run(context, input_file, output_file): pass
"""


def only(details, expected):
    return {name: details.get(name) for name in expected}


def test_resources_of_a_pipeline_reach_slurm(world, slurm):
    flow = SlurmFlow(world, slurm, **GRACE)
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
    task = flow.task(name=name)
    return task | {"worker_resources": given | {"sbatch_options": options}}


@pytest.mark.parametrize("name", CASES)
def test_resources_of_a_command_line_reach_slurm(tmp_path, slurm, name):
    given, expected = CASES[name]
    bench = Bench(tmp_path)
    bench.environment |= slurm.variables | GRACE
    bench.give(a="text")
    # A pipeline file may leave it out.
    amounts = {"memory": "none"} | given
    options = [
        f"--{key}={value}" for key, value in amounts.items() if key != "sbatch_options"
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


def test_comment_of_the_user_reaches_slurm(world, slurm):
    flow = SlurmFlow(world, slurm, **GRACE)
    flow.serve(CODE, resources={"sbatch_options": ["--comment=project42", LATER]})
    flow.add_inputs("a")
    assert flow.command("check", flow.pipeline).wait(SLURM_DEADLINE_S) == 0, flow.said
    assert "--comment project42 " in flow.said
    process = flow.watch()
    until(slurm.jobs, "its job is there")
    [job] = slurm.jobs()
    found = slurm.details(job)
    flow.stop(process)
    # Its words are apart in what Slurm says of a job.
    assert found["Comment"] == "project42", found


def test_what_check_shows_is_what_slurm_gets(world, slurm):
    flow = SlurmFlow(world, slurm, **GRACE)
    flow.add_module(CODE)
    flow.write(*(_later(flow, name, given) for name, (given, _) in CASES.items()))
    with slurm.reservation("class", "n1"):
        assert flow.command("check", flow.pipeline).wait(SLURM_DEADLINE_S) == 0, (
            flow.said
        )
        assert slurm.jobs() == []
        shown = [line.strip("│ ") for line in flow.said.splitlines()]
        commands = [line for line in shown if line.startswith("sbatch ")]
        assert len(commands) == len(CASES)
        assert sum(line.startswith("accepted: ") for line in shown) == len(CASES)
        for command, (_, expected) in zip(commands, CASES.values(), strict=True):
            said = slurm.call("sh", "-c", f"{command} --wrap true --output=/dev/null")
            found = slurm.details(said.split()[-1])
            assert only(found, expected) == expected, found
    assert not flow.out.exists()


def test_what_slurm_would_refuse_is_found_before_a_start(world, slurm):
    flow = SlurmFlow(world, slurm, **GRACE)
    flow.add_module(CODE)
    flow.write(
        *(
            flow.task(name=f"task{number}", resources=given)
            for number, (given, _) in enumerate(REFUSED)
        )
    )
    assert flow.command("check", flow.pipeline).wait(SLURM_DEADLINE_S) == 2
    told = [line for line in flow.said.splitlines() if "would be refused" in line]
    for number, (line, (_, words)) in enumerate(zip(told, REFUSED, strict=True)):
        place = f"tasks[{number}].worker_resources: its jobs would be refused: "
        assert place in line
        assert words in line
    assert slurm.jobs() == []
