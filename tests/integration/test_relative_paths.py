"""Where relative paths start, and tasks run, in all ways to run them."""

import json
import subprocess
import sys

import pytest
from runs import DEADLINE_S
from services import Watched
from slurm_flows import RESOURCES, SlurmFlow

from tigerflow.rundir.events import TaskDone

pytestmark = pytest.mark.snakemake

#: Notes where it runs and what its params are, as its result.
LOOK = """
import json
from typing import Annotated
import typer

class Look(LocalTask):
    class Params:
        model: Annotated[pathlib.Path, typer.Option(exists=True)]
        more: list[pathlib.Path] = [pathlib.Path("default")]
        nothing: pathlib.Path | None = None
        database: pathlib.Path = pathlib.Path("{output_dir}/words.duckdb")
        url: str = "models/m.bin"
    def run(context, input_file, output_file):
        names = ("model", "nothing", "database", "url")
        seen = {name: str(getattr(context, name)) for name in names}
        seen["more"] = [str(each) for each in context.more]
        seen["beside"] = open("models/m.bin").read()
        output_file.write_text(json.dumps({**seen, "cwd": os.getcwd()}))
        print("looked")

if __name__ == "__main__":
    Look.cli()
"""

PARAMS = {
    "model": "models/m.bin",
    "more": ["a", "/b", "~/c", "{output_dir}/d"],
}


class Project(Watched):
    """A pipeline in a directory of its own; commands are called elsewhere."""

    def give(self, code=LOOK, **task):
        """Write a pipeline of one task, and an input for it."""
        (self.project / "models").mkdir(parents=True)
        (self.project / "models" / "m.bin").write_text("weights")
        self.add_module(code, "project/tasks")
        self.add_inputs("a")
        self.write({"name": "look"} | task)

    @property
    def project(self):
        return self.root / "project"

    @property
    def pipeline(self):
        return self.project / "pipeline.yaml"

    def run(self, way):
        """Run the pipeline in one of the ways, from the directory above."""
        if way == "service":
            assert self.once() == 0, self.said
            return
        compiled = self.command("compile", self.pipeline, self.inputs, self.out)
        assert compiled.wait(DEADLINE_S) == 0, self.said
        code, said = self.snakemake("--executor", way)
        assert code == 0, said

    @property
    def seen(self):
        return json.loads((self.out / "look" / "a.out").read_text())


@pytest.fixture
def project(world):
    return Project(world, HOME=str(world.directory / "home"))


@pytest.fixture(params=["service", "local", "tigerflow"])
def way(request):
    """The service, plain Snakemake, and Snakemake with our executor."""
    return request.param


def test_relative_paths_of_a_pipeline_start_at_its_directory(project, way):
    project.give(params=PARAMS)
    here = project.project

    project.run(way)

    assert project.seen == {
        "model": str(here / "models/m.bin"),
        "more": [
            str(here / "a"),
            "/b",
            str(project.root / "home" / "c"),
            str(project.out / "d"),
        ],
        "nothing": "None",
        "database": str(project.out / "words.duckdb"),
        "url": "models/m.bin",
        "beside": "weights",
        "cwd": str(here),
    }


def test_setup_commands_start_at_the_pipelines_directory_and_may_leave_it(project, way):
    elsewhere = project.root / "elsewhere"
    (elsewhere / "models").mkdir(parents=True)
    (elsewhere / "models" / "m.bin").write_text("others")
    project.give(
        params={"model": "models/m.bin"},
        setup_commands=["cp models/m.bin copied", "cd ../elsewhere"],
    )

    project.run(way)

    assert (project.project / "copied").read_text() == "weights"
    assert project.seen["cwd"] == str(elsewhere)
    assert project.seen["beside"] == "others"
    assert project.seen["model"] == str(project.project / "models/m.bin")


def test_a_task_that_leaves_its_directory_still_finds_its_files(project, way):
    project.give(
        LOOK.replace(
            "def run(context,",
            'def setup(context): os.chdir("/")\n    def run(context,',
        ).replace('open("models/m.bin")', "open(context.model)"),
        params={"model": "models/m.bin"},
    )

    project.run(way)

    assert project.seen["cwd"] == "/"
    assert project.seen["beside"] == "weights"


def test_a_project_that_is_moved_does_nothing_again(project):
    project.give(params=PARAMS)
    project.run("service")
    moved = project.root / "moved"
    project.project.rename(moved)

    service = project.command(
        "watch", "--once", moved / "pipeline.yaml", project.inputs, project.out
    )

    assert service.wait(DEADLINE_S) == 0, project.said
    assert "have changed" not in project.said
    assert len(project.events(TaskDone)) == 1


def test_check_looks_for_a_relative_path_where_the_worker_does(project):
    project.give(params=PARAMS)

    assert project.command("check", project.pipeline).wait(DEADLINE_S) == 0

    (project.project / "models" / "m.bin").rename(project.root / "m.bin")
    assert project.command("check", project.pipeline).wait(DEADLINE_S) == 2
    assert f"'{project.project}/models/m.bin' does not exist" in project.said


def test_check_names_a_relative_path_that_is_only_where_it_is_called(project):
    project.give(params={"model": "models/m.bin", "url": "data/words.txt"})
    (project.root / "data").mkdir()
    (project.root / "data" / "words.txt").touch()

    assert project.command("check", project.pipeline).wait(DEADLINE_S) == 0

    [said] = [line for line in project.said.splitlines() if "current" in line]
    assert said.endswith(
        "tasks[0].params.url: 'data/words.txt' exists in the current directory, but "
        f"not in {str(project.project)!r}; relative paths start in the pipeline file's "
        "directory"
    )


def test_check_looks_up_setup_commands_where_the_worker_runs_them(project):
    project.give(params=PARAMS, setup_commands=["source env/activate"])
    (project.project / "env").mkdir()
    (project.project / "env" / "activate").write_text("export X=1")

    assert project.command("check", project.pipeline).wait(DEADLINE_S) == 0


def test_relative_paths_of_a_command_line_start_where_it_was_called(project):
    project.give()
    called = project.root / "called"
    (called / "models").mkdir(parents=True)
    (called / "models" / "m.bin").write_text("called")
    out = project.root / "alone"
    out.mkdir()
    options = ["--input-dir=../in", "--input-ext=.txt"]
    options += [f"--output-dir={out}", "--output-ext=.out"]
    options += ["--model=models/m.bin", "--once"]

    done = subprocess.run(
        [sys.executable, "../project/tasks.py", *options],
        cwd=called,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads((out / "a.out").read_text())
    assert seen == {
        "model": str(called / "models/m.bin"),
        "more": [str(called / "default")],
        "nothing": "None",
        "database": str(out / "words.duckdb"),
        "url": "models/m.bin",
        "beside": "called",
        "cwd": str(called),
    }


@pytest.mark.slurm
@pytest.mark.parametrize("setup_commands", [[], ["true"]])
def test_a_worker_on_a_node_runs_at_the_pipelines_directory(
    world, slurm, setup_commands
):
    class SlurmProject(Project, SlurmFlow):
        pass

    project = SlurmProject(world, slurm)
    project.give(
        LOOK.replace("LocalTask", "SlurmTask"),
        params=PARAMS,
        kind="slurm",
        max_workers=1,
        worker_resources=RESOURCES,
        setup_commands=setup_commands,
    )

    assert project.finish() == 0, project.said

    assert project.seen["cwd"] == str(project.project)
    assert project.seen["model"] == str(project.project / "models/m.bin")
    assert project.seen["more"][-1] == str(project.out / "d")
