"""A Snakemake whose internals have other names gives the same results."""

import tomllib
from pathlib import Path

import pytest
from flows import HEAD, LEFT, RIGHT
from services import TREE
from slurm_flows import SlurmFlow

from tigerflow.engine.internals import OLDEST, TOO_NEW, Internal

pytestmark = pytest.mark.snakemake

OTHER = Path(__file__).parents[1] / "support" / "other_snakemake"

RESULTS = {
    "head": ["a.out", "bad.err", "left.out"],
    "left": ["a.md", "left.err"],
    "right": ["a.out", "left.out"],
}

#: What a window of a service goes by.
IN_SERVICES = [
    Internal.EMPTY_DIRECTORIES,
    Internal.OUTPUT_TIMES,
    Internal.PRIORITIES,
    Internal.RECORDS,
    Internal.RUN_COROUTINE,
    Internal.PREPARE_JOB,
    Internal.USER_DIRECTORIES,
]

#: What a compiled Snakefile goes by.
IN_SNAKEFILES = [Internal.MAIN_SNAKEFILE, Internal.IN_REMOTE_JOB, Internal.LIMITS]

#: What the submission of workers goes by.
OF_JOBS = [Internal.JOB_COMMANDS, Internal.PRINT_EXCEPTION]
OF_SLURM = [each for each in Internal if each.module.endswith("plugin_slurm")]


def rename(flow, *internals):
    """Have Snakemake call these internals something else."""
    names = [internal.place.rpartition(".")[2] for internal in internals]
    flow.environment |= {"PYTHONPATH": str(OTHER), "RENAMED": ",".join(names)}


def add_tree(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("a", "left", "bad")


def results(flow):
    return {task: flow.names(task) for task in RESULTS}


def missed(said):
    """Return what TigerFlow said that it does without."""
    return [line for line in said.splitlines() if " has no " in line]


def is_about(line, internal):
    return f" has no {internal.place}" in line and line.endswith(internal.without)


@pytest.mark.parametrize("internal", IN_SERVICES, ids=lambda each: each.name)
def test_service_does_without(flow, internal):
    add_tree(flow)
    rename(flow, internal)
    assert flow.once() == 1, flow.said
    assert results(flow) == RESULTS
    [line] = missed(flow.said)
    assert is_about(line, internal)


@pytest.mark.parametrize("internal", IN_SNAKEFILES, ids=lambda each: each.name)
def test_executor_does_without(flow, internal):
    add_tree(flow)
    flow.compile(HEAD, LEFT, RIGHT)
    rename(flow, internal)
    code, said = flow.snakemake("--executor", "tigerflow", "--keep-going")
    assert code == 1, said
    assert results(flow) == RESULTS
    [line] = missed(said)
    assert is_about(line, internal)


@pytest.mark.parametrize("are_missing", [False, True])
def test_software_without_its_plugin_is_left_out_of_the_rules(flow, are_missing):
    flow.add_module(TREE)
    flow.write()
    flow.compile(HEAD | {"container": "docker://lab/head:1", "envmodules": ["a/1"]})
    with (flow.out / ".tigerflow/workflow/Snakefile").open("a") as snakefile:
        snakefile.write(
            "\n\nhead = workflow.get_rule('head')\n"
            "print('has', head.container_img, head.env_modules)\n"
        )
    if are_missing:
        # The mark of a Snakemake that leaves these to plugins.
        (flow.root / "snakemake_interface_software_deployment_plugins").mkdir()
        flow.environment["PYTHONPATH"] = str(flow.root)
    code, said = flow.snakemake()
    assert code == 0, said
    assert ("has None None\n" in said) == are_missing, said
    for name in ("container", "envmodules"):
        sentence = f"tigerflow: Snakemake ignores `{name}` of its rules: "
        assert said.count(sentence) == are_missing


@pytest.mark.slurm
@pytest.mark.parametrize("internals", [OF_JOBS, OF_SLURM], ids=["jobs", "slurm"])
def test_workers_in_jobs_do_without(world, slurm, internals):
    flow = SlurmFlow(world, slurm)
    # Enough for a Snakemake in the job, too.
    flow.serve(resources={"memory": "600M"})
    flow.add_inputs("a", "b")
    rename(flow, *internals)
    with flow.count:
        assert flow.finish() == 0, flow.said
    assert flow.names("work") == ["a.out", "b.out"]
    for line, internal in zip(missed(flow.said), internals, strict=True):
        assert is_about(line, internal)


def test_no_line_is_said_where_all_is_as_expected(flow):
    add_tree(flow)
    assert flow.once() == 1, flow.said
    assert results(flow) == RESULTS
    assert missed(flow.said) == []


def test_range_of_the_package_is_the_one_that_is_checked_at_the_start():
    project = tomllib.loads(
        Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    )
    least, limit = (".".join(map(str, each)) for each in (OLDEST, (TOO_NEW[0],)))
    assert f"snakemake>={least},<{limit}" in project["project"]["dependencies"]


@pytest.mark.parametrize("version", ["9.19.0", "10.0.0"])
@pytest.mark.parametrize("way", ["service", "snakemake"])
def test_snakemake_that_is_not_supported_is_named_at_the_start(flow, version, way):
    add_tree(flow)
    flow.compile(HEAD, LEFT, RIGHT)
    record = flow.root / "elsewhere" / f"snakemake-{version}.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Name: snakemake\nVersion: {version}\n")
    flow.environment["PYTHONPATH"] = str(record.parent)
    if way == "service":
        code, said = flow.once(), flow.said
    else:
        code, said = flow.snakemake()
    assert code == 2, said
    assert f"TigerFlow needs Snakemake 9.20 or newer, below 10.0; {version} is" in said
    assert "Traceback" not in said
    assert results(flow) == {"head": [], "left": [], "right": []}
