"""`envmodules`, `conda` and `container` of a pipeline file, whoever runs it."""

import os

import pytest
from services import Watched
from software import MODULE_SHELL, PLATFORM, Software, needed

pytestmark = pytest.mark.snakemake

#: Writes what it sees of its surroundings.
TASKS = """
def seen(output_file):
    names = ("GREETING", "CONDA_PREFIX", "APPTAINER_CONTAINER", "NV")
    found = {name: os.environ[name] for name in names if name in os.environ}
    output_file.write_text(repr(found))


class Work(LocalTask):
    def run(context, input_file, output_file):
        assert input_file.read_text() == input_file.stem
        seen(output_file)


class Bare(LocalTask):
    def run(context, input_file, output_file):
        seen(output_file)
"""
WORK = {"name": "work", "module": "tasks.py:Work"}
BARE = {"name": "bare", "module": "tasks.py:Bare"}
#: When the first job that Snakemake starts was one of `work`.
AFTER = BARE | {"depends_on": "work", "input_ext": ".out"}


def _by_service(flow):
    assert flow.once() == 0, flow.said


def _by_snakemake(*options):
    def run(flow):
        # As on a cluster, where every shell has the function.
        flow.environment["BASH_ENV"] = str(MODULE_SHELL)
        code, said = flow.snakemake(*options)
        assert code == 0, said

    return run


EITHER = {
    "service": _by_service,
    "snakemake": _by_snakemake(),
    "executor": _by_snakemake("--executor", "tigerflow"),
}


@pytest.fixture
def software(tmp_path):
    needed()
    return Software(tmp_path / "project" / "software")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "project"


@pytest.fixture
def flow(world, tmp_path, software):
    """A project, its inputs and its results, none of them below another."""
    made = Watched(world, **software.variables)
    made.inputs, made.out = tmp_path / "inputs", tmp_path / "results"
    made.inputs.mkdir()
    made.add_module(TASKS)
    made.add_inputs("a", "b")
    return made


def _prepare(flow, *tasks):
    flow.write(*tasks)
    flow.compile(*tasks)


def _seen(flow, task):
    [text] = {*flow.texts(task).values()}
    return eval(text)


@pytest.mark.parametrize(
    "run",
    [
        *EITHER.values(),
        _by_snakemake("--sdm", "env-modules"),
    ],
    ids=[*EITHER, "sdm"],
)
def test_modules_are_loaded_for_the_workers_of_their_task_only(flow, software, run):
    software.add_module("greeting/1.0", GREETING="hello")
    _prepare(flow, WORK | {"envmodules": ["greeting/1.0"]}, AFTER)

    run(flow)

    assert _seen(flow, "work") == {"GREETING": "hello"}
    assert _seen(flow, "bare") == {}
    assert "Nothing to be done" in flow.dry_run()


@pytest.mark.parametrize(
    ("run", "given"),
    [
        (_by_service, "speech"),
        (_by_service, "software/conda/envs/speech"),
        (_by_snakemake(), "speech"),
        (_by_snakemake("--sdm", "conda"), "speech"),
    ],
    ids=["name", "directory", "snakemake", "sdm"],
)
def test_conda_environment_is_that_of_the_workers(flow, software, run, given):
    prefix = software.add_environment("speech")
    _prepare(flow, WORK | {"conda": given}, AFTER)

    run(flow)

    assert _seen(flow, "work") == {"CONDA_PREFIX": str(prefix)}
    assert _seen(flow, "bare") == {}


def test_environment_of_a_file_is_made_by_snakemake_and_used_by_all(flow, software):
    (flow.root / "speech.yaml").write_text("name: of a file\ndependencies: []\n")
    _prepare(flow, WORK | {"conda": "speech.yaml"})
    snakefile = flow.out / ".tigerflow/workflow/Snakefile"

    assert flow.once() == 2
    assert flow.said.splitlines()[-1].endswith(
        f"pipeline.yaml: task 'work': no environment has been created from "
        f"'{flow.root}/speech.yaml' yet; run: "
        f"tigerflow compile {flow.root}/pipeline.yaml {flow.inputs} {flow.out}; "
        f"then once: "
        f"snakemake -s {snakefile} "
        "--sdm conda --conda-create-envs-only"
    )
    _by_snakemake("--sdm", "conda", "--conda-create-envs-only")(flow)
    assert sum(call.startswith("env create") for call in software.calls) == 1
    _by_service(flow)
    flow.add_inputs("later")
    _by_snakemake()(flow)

    prefix = _seen(flow, "work")["CONDA_PREFIX"]
    assert prefix.startswith(f"{flow.out}/.snakemake/conda/")
    assert len(flow.texts("work")) == 3


def test_environment_of_a_file_is_that_of_the_workers_with_sdm(flow):
    (flow.root / "speech.yaml").write_text("name: of a file\ndependencies: []\n")
    # Snakemake reads these, too.
    (flow.root / f"speech.{PLATFORM}.pin.txt").write_text("@EXPLICIT\n")
    (flow.root / "speech.post-deploy.sh").write_text("touch deployed\n")
    _prepare(flow, WORK | {"conda": "speech.yaml"}, AFTER)

    _by_snakemake("--sdm", "conda")(flow)

    prefix = _seen(flow, "work")["CONDA_PREFIX"]
    assert prefix.startswith(f"{flow.out}/.snakemake/conda/")
    assert _seen(flow, "bare") == {}


@pytest.mark.parametrize("run", EITHER.values(), ids=EITHER)
def test_workers_run_in_the_container_and_see_their_files(flow, software, run):
    _prepare(flow, WORK | {"container": "software/image.sif"}, AFTER)

    run(flow)

    assert _seen(flow, "work") == {"APPTAINER_CONTAINER": str(software.image)}
    assert _seen(flow, "bare") == {}
    assert "Nothing to be done" in flow.dry_run()


@pytest.mark.slurm
def test_workers_in_jobs_have_the_software_of_their_task(flow, software, slurm):
    software.add_module("greeting/1.0", GREETING="hello")
    flow.environment |= slurm.variables | {"PATH": _path(software, slurm)}
    flow.add_module(TASKS.replace("Work(LocalTask)", "Work(SlurmTask)"))
    flow.write(
        WORK
        | {
            "kind": "slurm",
            "max_workers": 1,
            "worker_resources": {"cpus": 1, "memory": "100M", "time": "10"},
            "envmodules": ["greeting/1.0"],
            "container": str(software.image),
        },
    )

    _by_service(flow)

    assert _seen(flow, "work") == {
        "GREETING": "hello",
        "APPTAINER_CONTAINER": str(software.image),
    }


def _path(software, slurm):
    paths = (software.variables["PATH"], slurm.variables.get("PATH", ""))
    return os.pathsep.join(paths)


def test_containers_are_not_left_to_snakemake(flow):
    _prepare(flow, WORK | {"container": "software/image.sif"})

    code, said = flow.snakemake("--sdm", "apptainer")

    assert code != 0
    assert (
        "tigerflow: leave out --sdm apptainer: workers run in their containers by "
        "themselves" in said
    )
    assert flow.names("work") == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"envmodules": "none/1.0"}, "module purge && module load none/1.0"),
        ({"conda": "nowhere"}, "conda activate nowhere"),
    ],
)
def test_software_that_is_not_there_stops_its_task_alone(flow, keys, said):
    _prepare(flow, WORK | keys, BARE)

    assert flow.once() == 1

    failed = f"task 'work' cannot run: its setup command failed: {said} (exit code 1)"
    assert failed in flow.said
    assert flow.names("work") == []
    assert len(flow.names("bare")) == 2


def test_module_of_a_task_may_need_its_software_to_be_imported(flow, software):
    software.add_module("greeting/1.0", GREETING="hello")
    code = 'os.environ["{}"]\n' + TASKS
    flow.add_module(code.replace("{}", "GREETING", 1))
    _prepare(flow, WORK | {"envmodules": ["greeting/1.0"]})
    _by_service(flow)
    assert _seen(flow, "work") == {"GREETING": "hello"}

    flow.add_module(code.replace("{}", "APPTAINER_CONTAINER", 1))
    flow.add_inputs("later")
    _prepare(flow, WORK | {"container": str(software.image)})
    _by_service(flow)
    assert "APPTAINER_CONTAINER" in flow.texts("work")["later.out"]
