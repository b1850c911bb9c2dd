"""A Slurm task by itself, as a pipeline of one."""

import sys
from pathlib import Path

import pytest
from pipelines import Train, Upper

from tigerflow.errors import OptionError, TaskDefinitionError
from tigerflow.pipeline.alone import Program, pipeline_of_one
from tigerflow.pipeline.schema import split_commands
from tigerflow.tasks import SlurmTask

OPTIONS = {
    "max_workers": 3,
    "cpus": 2,
    "memory": "12G",
    "time": "02:00:00",
    "gpus": None,
    "sbatch_option": None,
    "setup_command": None,
    "setup_commands": None,
}


def one(**options):
    extensions = (".mp4", ".txt")
    return pipeline_of_one(Train, "train", extensions, OPTIONS | options, {})


def test_options_are_those_of_a_pipeline_file():
    [task] = one(
        gpus="a100:2",
        sbatch_option=["--qos=long", "-A lab"],
        setup_command=["conda activate x"],
        setup_commands="module purge; module load y",
    ).tasks

    spec = task.spec
    assert (spec.name, spec.input_ext, spec.output_ext) == ("train", ".mp4", ".txt")
    assert spec.max_workers == 3
    assert spec.worker_resources.model_dump() == {
        "cpus": 2,
        "memory": "12G",
        "time": "02:00:00",
        "gpus": "a100:2",
        "sbatch_options": ("--qos=long", "-A lab"),
    }
    assert spec.setup_commands == (
        "module purge",
        "module load y",
        "conda activate x",
    )


def test_all_options_that_cannot_be_are_named():
    with pytest.raises(OptionError) as caught:
        one(memory="12X", gpus="many:", sbatch_option=["--mem=1"])

    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "--memory",
        "Error",
        "Error",
    ]
    assert "Error: --gpus: gpus 'many:' is not a count, TYPE or TYPE:COUNT" in lines[1]
    assert "Error: --sbatch-option: sbatch option --mem is not accepted" in lines[2]


def test_memory_that_no_worker_asks_for_is_none():
    [task] = one(memory="none", sbatch_option=["--mem-per-cpu=4G"]).tasks

    assert task.spec.worker_resources.memory is None


def test_memory_given_twice_is_refused_with_a_fix():
    with pytest.raises(OptionError) as caught:
        one(memory="4G", sbatch_option=["--mem-per-cpu=4G"])

    assert str(caught.value) == (
        "--sbatch-option: sbatch option --mem-per-cpu and --memory are both given, so "
        "give '--memory none', or leave out the sbatch option"
    )


def test_a_setup_command_that_bash_cannot_read_is_named():
    with pytest.raises(OptionError) as caught:
        one(setup_command=["module purge", "echo ("])

    assert str(caught.value) == (
        "--setup-command: bash cannot read 'echo (': "
        "syntax error near unexpected token `newline'"
    )


def test_a_class_is_found_where_it_was_imported_from():
    program = Program.of(Upper)

    assert program.module == "pipelines:Upper"
    assert program.path.name == "pipelines"


def test_a_program_is_found_by_its_file(monkeypatch, tmp_path):
    main = type(sys)("__main__")
    main.__file__ = str(tmp_path / "my task.py")
    main.Job = type("Job", (SlurmTask,), {"__module__": "__main__"})
    monkeypatch.setitem(sys.modules, "__main__", main)

    program = Program.of(main.Job)

    assert program.module == f"{tmp_path}/my task.py:Job"
    assert program.path == Path(main.__file__)


def test_a_class_that_no_worker_could_import_is_refused():
    class Hidden(SlurmTask):
        pass

    with pytest.raises(TaskDefinitionError, match="Hidden must be defined at the top"):
        Program.of(Hidden)


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("module purge; module load x;", ["module purge", "module load x"]),
        ('a \'x;y\'; b "p;\\"q"', ["a 'x;y'", 'b "p;\\"q"']),
        ("a \\; b; c", ["a \\; b", "c"]),
        ("if a; then b; fi; c", ["if a; then b; fi; c"]),
        (" ; ", []),
        ("", []),
    ],
)
def test_semicolons_separate_setup_commands(text, commands):
    assert split_commands(text) == commands
